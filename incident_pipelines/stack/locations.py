"""Where the stack keeps its files."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from incident_pipelines.stack.errors import StackError

HOME_VARIABLE = "INCIDENT_PIPELINES_HOME"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
_LONGEST_SOCKET_PATH = 100
_LONGEST_SOCKET_NAME = len("/.s.PGSQL.65535.lock")


@dataclass(frozen=True)
class Home:
    """The folder that holds one stack's whole state.

    Args:
        path: Resolved, absolute.
    """

    path: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """The home that INCIDENT_PIPELINES_HOME names, by default `.local` in the working directory."""
        return cls.at(Path(os.environ.get(HOME_VARIABLE) or ".local"))

    @classmethod
    def at(cls, path: Path) -> "Home":
        """The home at a path, relative ones from the working directory."""
        return cls(path.expanduser().resolve())

    @property
    def state_file(self) -> Path:
        return self.path / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "stack.lock"

    @property
    def supervisor_config(self) -> Path:
        return self.path / "supervisord.conf"

    @property
    def supervisor_pid_file(self) -> Path:
        return self.path / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        return self.socket_folder / "supervisor.sock"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def postgres_data(self) -> Path:
        return self.path / "postgres"

    @property
    def kafka(self) -> Path:
        return self.path / "kafka"

    @property
    def dagster(self) -> Path:
        return self.path / "dagster"

    @property
    def sql(self) -> Path:
        """Where processes read the SQL that ships: a link, so that what is deployed to this stack can be changed."""
        return self.path / "sql"

    @property
    def app_audit_log(self) -> Path:
        """Where the example's app writes what it emitted; readers are told by APP_AUDIT_LOG."""
        return self.path / "example" / "audit"

    @property
    def socket_folder(self) -> Path:
        """Short enough for a unix socket: inside the home, or a folder of its own under the temporary one."""
        inside = self.path / "run"
        if len(os.fsencode(inside)) + _LONGEST_SOCKET_NAME <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"incident-pipelines-{os.getuid()}-{digest}"

    def create(self) -> None:
        """Make the home and its folders, readable by their owner alone.

        Raises:
            StackError: The home cannot be made, or somebody else owns the socket folder.
        """
        if "%" in str(self.path):
            raise StackError(f"supervisord cannot work in {self.path}", f"choose a {HOME_VARIABLE} without %")
        try:
            for folder in (self.path, self.logs, self.kafka, self.dagster, self.socket_folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o755 if folder == self.path else 0o700)
        except OSError as error:
            raise StackError(f"{self.path} cannot hold the stack's state: {error}") from error
        # The temporary folder is everybody's: a folder planted there by another user must not be used.
        if self.socket_folder.stat().st_uid != os.getuid() or self.socket_folder.is_symlink():
            raise StackError(f"{self.socket_folder} belongs to another user", f"choose a shorter {HOME_VARIABLE}")


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content so that a reader, or a crash, finds the old or the new text and nothing between.

    Args:
        mode: Who may read it; 0o600 where it may hold a password.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def cache_folder() -> Path:
    """Where downloads are kept for every stack of this user: `$XDG_CACHE_HOME/incident-pipelines`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "incident-pipelines"


def shipped_file(name: str) -> Path:
    """A configuration file that comes with the software: at the top of a checkout, or inside an installed package.

    Args:
        name: For instance `dagster.yaml`.

    Raises:
        StackError: The installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package.parents[1], package / "files"):
        if (folder / name).is_file():
            return folder / name
    raise StackError(f"{name} is missing from this installation", "install the package again")
