"""What a game day works with: the running stack as its owner, chance from a seed, the promise to put things back."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.processes import start_processes
from incident_pipelines.adapters.stores import suspensions
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.core.landing_watch import Watch
from incident_pipelines.example.databases import connect
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.settings import Settings
from incident_pipelines.stack.supervisor import Supervisor

SERVICE = ("example-app", "example-billing")
LANDER = "lander"
POLL_SECONDS = 0.5
ANSWER_SECONDS = 20.0
STOP_SECONDS = 60.0
LONGEST_HOLD = timedelta(minutes=30)
"""A suspension that a game day leaves behind when it is killed ends by itself after so long."""


class CannotRun(IncidentPipelinesError):
    """A game day cannot be run here or now; nothing was broken."""


@dataclass(frozen=True)
class Drill:
    """The stack that a game day takes place in.

    Args:
        environment: addresses as the stack's owner has them.
        settings: of the example.
        supervisor: of the stack's processes.
        seed: moves times, sizes and victims.
        random: drawn from the seed.
        events: how many events a game day that needs its own writes, about.
        report: told of each step.
        restore: what is put back at the end, the last first, whatever happens.
    """

    environment: Mapping[str, str]
    settings: Settings
    catalog: Catalog
    supervisor: Supervisor
    seed: int
    random: Random
    events: int
    report: Callable[[str], None]
    restore: ExitStack = field(default_factory=ExitStack)

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the example's topics at the broker."""
        return tuple(self.settings.topic_prefix + topic for topic in TOPICS)

    def warehouse(self) -> psycopg.Connection:
        """Return a connection to the warehouse that commits each statement."""
        return connect(self.environment["WAREHOUSE_URL"], autocommit=True, application="game day")

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float) -> datetime:
        """Wait until a condition holds, and return when it was seen.

        Raises:
            CannotRun: it does not hold in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise CannotRun(f"{what}: not within {seconds:.0f} s; what was changed is put back")
            time.sleep(POLL_SECONDS)
        return self.now()

    @contextmanager
    def _control(self) -> Iterator[Any]:
        engine = postgres_engine(self.environment["CONTROL_DATABASE_URL"], "game day", pool_size=1)
        try:
            with available("control database"), engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def suspend(self, *watches: Watch) -> None:
        """Keep watches quiet until `resume`, at the latest until the end."""
        now = self.now()
        with self._control() as connection:
            for watch in watches:
                because = "a game day holds its fault until the damage is real"
                suspensions.suspend(connection, watch, now + LONGEST_HOLD, "game day", because, now)
        self.restore.callback(self.resume, *watches)

    def resume(self, *watches: Watch) -> None:
        """Let watches speak again."""
        with self._control() as connection:
            for watch in watches:
                suspensions.resume(connection, watch, "game day", self.now())

    def stop(self, *programs: str) -> None:
        """Stop programs through their supervisor, and start them again at the end."""
        names = self.processes(*programs)
        self.restore.callback(self.start, *programs)
        self.supervisor.stop_processes(names)
        # What was asked to stop twice is said to run no longer while it still stops.
        self.wait_for(f"{', '.join(names)} stopped", lambda: not self._any(names, "STOPPING", "RUNNING"), STOP_SECONDS)

    def start(self, *programs: str) -> None:
        """Start what does not run of some programs."""
        for program in programs:
            start_processes(self.environment, program)

    def processes(self, *programs: str) -> list[str]:
        """Return the names of the processes of some programs."""
        known = [one.name for one in self.supervisor.processes()]
        return [name for name in known if name.partition(":")[0] in programs]

    def _any(self, names: list[str], *states: str) -> bool:
        return any(one.state in states for one in self.supervisor.processes() if one.name in names)

    def topic_settings(self, names: tuple[str, ...]) -> dict[str, dict[str, str | None]]:
        """Return settings of all topics; None where a topic has none of its own."""
        admin = self._admin()
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in self.topics]
        found: dict[str, dict[str, str | None]] = {}
        try:
            for resource, future in admin.describe_configs(resources, request_timeout=ANSWER_SECONDS).items():
                entries = future.result(ANSWER_SECONDS)
                found[str(resource.name)] = {
                    name: None if entries[name].is_default else str(entries[name].value) for name in names
                }
        except (KafkaException, TimeoutError) as error:
            raise SourceUnavailable(f"Kafka does not tell the settings of its topics: {error}") from error
        return found

    def keep_topic_settings(self, *names: str) -> None:
        """Remember settings of the topics now, and put them back at the end."""
        for topic, before in self.topic_settings(names).items():
            self.restore.callback(self.set_topic, topic, before)

    def set_topics(self, values: Mapping[str, str | None]) -> None:
        """Give all topics settings; None takes a topic's own away."""
        for topic in self.topics:
            self.set_topic(topic, values)

    def set_topic(self, topic: str, values: Mapping[str, str | None]) -> None:
        """Give one topic settings, and return when the broker tells them."""
        entries = [
            ConfigEntry(
                name,
                value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for name, value in values.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        try:
            admin = self._admin()
            futures = admin.incremental_alter_configs([resource], request_timeout=ANSWER_SECONDS)
            futures[resource].result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise SourceUnavailable(f"Kafka does not change the settings of topic {topic}: {error}") from error
        names = tuple(values)
        self.wait_for(f"topic {topic} has its settings", lambda: self.topic_settings(names)[topic] == values, 20)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.settings.kafka, "log_level": 0})
