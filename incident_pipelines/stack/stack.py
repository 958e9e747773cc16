"""One local stack: starting it in order, reviving it, stopping it."""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from incident_pipelines.stack import accounts, jars, orphans, ports
from incident_pipelines.stack.deployed_sql import deploy_shipped_sql
from incident_pipelines.stack.environment import environment_for
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.kafka import KafkaBroker
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.own_catalog import KAFKA_VARIABLE, require_kafka
from incident_pipelines.stack.postgres import PostgresServer
from incident_pipelines.stack.programs import Program
from incident_pipelines.stack.state import StackState
from incident_pipelines.stack.supervisor import Supervisor

POSTGRES = "postgres"
KAFKA = "kafka"
INFRASTRUCTURE = (POSTGRES, KAFKA)
PORT_PURPOSES = {
    "postgres": ("PostgreSQL", "--postgres-port"),
    "kafka": ("Kafka", "--kafka-port"),
    "dagster": ("the Dagster UI", "--dagster-port"),
}
_SPARED_BY_STOP = frozenset({"supervisord", "postgres", "postgres-child", "kafka"})
_LEAST_FREE_BYTES = 1024**3
_FAILING_START_SECONDS = 15.0

Report = Callable[[str], None]


class Stack:
    """The stack of one home.

    Args:
        home: Where its state is.
        durable: Whether PostgreSQL waits for the disk; False for tests only.
        ends_with_caller: Whether everything stops when the calling process dies; for tests.
    """

    def __init__(self, home: Home | Path, *, durable: bool = True, ends_with_caller: bool = False) -> None:
        self.home = home if isinstance(home, Home) else Home.at(home)
        self.supervisor = Supervisor(self.home)
        self._durable = durable
        self._ends_with_caller = ends_with_caller
        self._state: StackState | None = None

    @property
    def state(self) -> StackState:
        """What the stack remembers; made at the first start."""
        if self._state is None:
            self._state = StackState.load(self.home) or StackState.first(datetime.now(UTC))
        return self._state

    @property
    def postgres(self) -> PostgresServer:
        """The database server."""
        home, user_id = self.home, accounts.account_for(self.home.postgres_data)
        port = self.state.choose_port("postgres")
        return PostgresServer(home.postgres_data, home.socket_folder / "pg", port, user_id, self._durable)

    @property
    def bootstrap_servers(self) -> str:
        """HOST:PORT of Kafka: the stack's own, or the one that a catalog of one's own came with."""
        return self.state.own.get(KAFKA_VARIABLE) or f"{ports.HOST}:{self.state.choose_port('kafka')}"

    def environment(self, role: str | None = "owner") -> dict[str, str]:
        """The addresses as a process with a role gets them (`environment.ROLE_DATABASES`)."""
        return environment_for(role, self.home, self.postgres, self.bootstrap_servers, self.state)

    def start_infrastructure(
        self,
        report: Report = lambda _: None,
        programs: tuple[Program, ...] = (),
        at_once: tuple[str, ...] = (),
    ) -> None:
        """Start PostgreSQL and Kafka under supervisord and wait until both answer and the databases are there.

        Of somebody else's Kafka it is only made sure that it answers.

        Args:
            report: Told of each step.
            programs: Further programs, made known to supervisord.
            at_once: Which of them need neither PostgreSQL nor Kafka to start, and are started with them.

        Raises:
            StackError: Something prevents it; what was started by then is stopped again.
        """
        home = self.home
        home.create()
        deploy_shipped_sql(home)
        self._check_disk()
        orphans.stop_orphans(home, report)
        home.supervisor_pid_file.unlink(missing_ok=True)
        for purpose in ("postgres", "kafka", "kafka_controller", *_ports_of(programs)):
            self.state.choose_port(purpose)
        for purpose, port in self.state.ports.items():
            ports.require_free(port, *PORT_PURPOSES.get(purpose, (purpose, None)))
        self.state.save(home)

        server = self.postgres
        server.sockets.mkdir(exist_ok=True, mode=0o755)
        broker: KafkaBroker | None = None
        # Fast shutdown; a server that was killed needs its children to end before it can start again.
        infrastructure = [Program(POSTGRES, server.command, stop_signal="INT", stop_seconds=60, start_seconds=1)]
        if KAFKA_VARIABLE in self.state.own:
            report("preparing PostgreSQL")
            require_kafka(self.bootstrap_servers)
            server.prepare_files(report)
        else:
            with ThreadPoolExecutor(2) as pool:
                report("preparing PostgreSQL and Kafka")
                kafka_prepared = pool.submit(self._prepare_kafka, report)
                server.prepare_files(report)
                broker = kafka_prepared.result()
            infrastructure.append(Program(KAFKA, broker.command, stop_seconds=30))
        self.supervisor.write_config(
            (program, self._environment_of(program)) for program in (*infrastructure, *programs)
        )
        self.supervisor.start(ends_with_caller=self._ends_with_caller, withheld=self.state.own)
        try:
            report("starting PostgreSQL" + (" and Kafka" if broker else ""))
            for name in (*(program.name for program in infrastructure), *at_once):
                self.supervisor.start_process(name)
            server.wait_until_ready(self._hope_for("postgres"))
            server.create_databases(example=self.state.has_example_databases)
            if broker:
                report("waiting for Kafka")
                broker.wait_until_ready(self._hope_for("kafka"))
        except BaseException as error:
            if isinstance(error, StackError) and error.hint is None:
                error.hint = self._last_words()
            self.supervisor.shut_down()
            raise

    def stop(self, report: Report = lambda _: None) -> bool:
        """Stop everything in the reverse order of the start, also what lost its supervisord.

        Returns:
            Whether anything ran.
        """
        was_running = False
        try:
            if self.state.running:
                self.state.running = False
                self.state.save(self.home)
        except StackError as error:
            # Stopping needs no memory.
            report(str(error))
        if self.supervisor.answers():
            was_running = True
            names = [process.name for process in self.supervisor.processes()]
            # The keeper first, or it takes the end of supervisord for a crash.
            if "keeper" in names:
                self.supervisor.stop_process("keeper")
            report("stopping the services")
            self.supervisor.stop_processes([name for name in names if name not in (*INFRASTRUCTURE, "keeper")])
            # Dagster's runs are children of a service; they have to note their end while PostgreSQL is there.
            orphans.stop_orphans(self.home, spared=_SPARED_BY_STOP)
            report("stopping Kafka and PostgreSQL")
            self.supervisor.stop_processes([name for name in INFRASTRUCTURE if name in names])
            self.supervisor.shut_down()
        stopped = orphans.stop_orphans(self.home, report)
        self.home.supervisor_pid_file.unlink(missing_ok=True)
        return was_running or bool(stopped)

    @contextmanager
    def exclusive(self, wait_seconds: float) -> Iterator[None]:
        """Hold the home while starting or stopping: two commands at the same time must not mix.

        Args:
            wait_seconds: How long to wait for another command to finish.

        Raises:
            StackError: Another command still holds it.
        """
        self.home.create()
        with self.home.lock_file.open("a") as file:

            def is_mine() -> bool:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            if not wait_for(is_mine, wait_seconds):
                raise StackError(
                    f"another command is starting or stopping the stack in {self.home.path}", "wait until it is done"
                )
            # What the other command changed counts.
            self._state = None
            yield

    def _prepare_kafka(self, report: Report) -> KafkaBroker:
        broker = KafkaBroker(
            self.home.kafka,
            self.state.ports["kafka"],
            self.state.ports["kafka_controller"],
            jars.fetch_jars(report),
        )
        broker.prepare_files()
        return broker

    def _environment_of(self, program: Program) -> dict[str, str]:
        variables = self.environment(program.role) | dict(program.environment)
        return variables | {variable: str(self.state.ports[name]) for variable, name in program.ports.items()}

    def _hope_for(self, name: str) -> Callable[[], bool]:
        """Whether it is worth waiting for a process: no longer when its starts have kept failing for a while."""
        give_up = time.monotonic() + _FAILING_START_SECONDS

        def may_still_start() -> bool:
            failing = self.supervisor.state_of(name) in ("BACKOFF", "FATAL", "EXITED", "STOPPED")
            return not failing or time.monotonic() < give_up

        return may_still_start

    def _last_words(self) -> str:
        for name in INFRASTRUCTURE:
            log = self.home.logs / f"{name}.log"
            if log.exists() and self.supervisor.answers() and self.supervisor.state_of(name) == "BACKOFF":
                lines = log.read_text(errors="replace").splitlines()[-3:]
                return f"{log} ends with: " + " | ".join(lines)
        return f"the logs are in {self.home.logs}"

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.home.path).free
        if free < _LEAST_FREE_BYTES:
            raise StackError(
                f"only {free / 1024**2:.0f} MB are free under {self.home.path}, the stack needs 1024 MB",
                "free some space, or set INCIDENT_PIPELINES_HOME to another disk",
            )


def _ports_of(programs: tuple[Program, ...]) -> list[str]:
    return [name for program in programs for name in program.ports.values()]


def wait_for(condition: Callable[[], bool], timeout_seconds: float, interval_seconds: float = 0.1) -> bool:
    """Ask until a condition holds.

    Returns:
        Whether it held in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_seconds)
    return True
