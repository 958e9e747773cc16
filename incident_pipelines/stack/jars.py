"""Apache Kafka's jars: fetched through jgo as `jgo.lock.toml` names them, each verified before it is used."""

import hashlib
import logging
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from incident_pipelines.stack.errors import ArtifactRejectedError, StackError
from incident_pipelines.stack.locations import cache_folder, shipped_file, write_atomically

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_DOWNLOADS_AT_ONCE = 4
_ATTEMPTS = 3


@dataclass(frozen=True)
class Jar:
    """One locked artifact of a Maven repository."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def locked_jars(lock_file: Path | None = None) -> tuple[Jar, ...]:
    """The jars that the lock file names, in the order of the class path.

    Raises:
        StackError: The file is unreadable, or an artifact has no checksum.
    """
    path = lock_file or shipped_file("jgo.lock.toml")
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["dependencies"]
        return tuple(Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries)
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise StackError(f"{path} is not a complete lock file: {error!r}", "write it again: make lock") from error


def fetch_jars(report: Callable[[str], None], jars: tuple[Jar, ...] | None = None) -> tuple[Path, ...]:
    """Have every locked jar on disk, verified, and give the class path.

    A jar that is missing, cut short or altered is fetched again.

    Args:
        report: Told what is fetched.

    Raises:
        ArtifactRejectedError: The repository gives a file that is not the locked one.
        StackError: A jar cannot be fetched.
    """
    jars = jars if jars is not None else locked_jars()
    folder = cache_folder() / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not _is_intact(folder / jar.file_name, jar)]
    if missing:
        report(f"fetching {len(missing)} of {len(jars)} jars")
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            for jar, _ in zip(missing, pool.map(lambda jar: _fetch(jar, folder), missing), strict=True):
                report(f"fetched and verified {jar.file_name}")
    return tuple(folder / jar.file_name for jar in jars)


def write_lock(spec: Path, lock_file: Path) -> None:
    """Resolve the coordinates of `jgo.toml` anew and write their versions and checksums down.

    Raises:
        StackError: A coordinate cannot be resolved.
    """
    from jgo.env import EnvironmentSpec
    from jgo.env._lockfile import LockFile, compute_spec_hash

    with tempfile.TemporaryDirectory() as folder:
        context = _maven_context(Path(folder))
        coordinates = EnvironmentSpec.load(spec).coordinates
        try:
            inputs, transitive = context.resolver.resolve([context.create_dependency(one) for one in coordinates])
            lock = LockFile.from_resolved_dependencies(
                inputs + transitive, environment_name="kafka", spec_hash=compute_spec_hash(spec)
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise StackError(f"the coordinates of {spec} cannot be resolved: {error}") from error
        unsaved = Path(folder) / "jgo.lock.toml"
        lock.save(unsaved)
        write_atomically(lock_file, unsaved.read_text(encoding="utf-8"))


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch(jar: Jar, folder: Path) -> None:
    # Each attempt starts from an empty repository: jgo takes whatever lies in one for complete.
    for attempt in range(1, _ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as repository:
            component = _maven_context(Path(repository)).project(jar.group, jar.artifact).at_version(jar.version)
            try:
                fetched = component.artifact().resolve()
            except (RuntimeError, OSError) as error:
                if attempt == _ATTEMPTS:
                    raise StackError(
                        f"{jar.file_name} cannot be fetched: {error}",
                        "check the network; a mirror can be named in jgo's settings file, section [repositories]",
                    ) from error
                continue
            if _is_intact(fetched, jar):
                shutil.move(fetched, folder / jar.file_name)
                return
    raise ArtifactRejectedError(
        f"{jar.file_name} from the repository does not have the locked sha256 {jar.sha256}",
        "something between here and the repository alters files; nothing was installed",
    )


def _maven_context(repository: Path) -> "MavenContext":
    # Imported when something is to be fetched: every start of the stack would pay for it otherwise.
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    # A user's own mirror comes first.
    remotes = {**GlobalSettings.load().repositories}
    remotes.setdefault("central", MAVEN_CENTRAL_URL)
    return MavenContext(repo_cache=repository, remote_repos=remotes, timeout=60)


def main() -> None:
    """Fetch the jars, or with `lock` write the lock file; used by the Makefile."""
    try:
        if sys.argv[1:] == ["lock"]:
            write_lock(shipped_file("jgo.toml"), shipped_file("jgo.toml").with_name("jgo.lock.toml"))
        else:
            fetch_jars(print)
    except StackError as error:
        sys.exit(f"{error}\n{error.hint or ''}".strip())


if __name__ == "__main__":
    main()
