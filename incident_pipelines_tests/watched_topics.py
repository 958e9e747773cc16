"""A catalog of one topic that the broker has, its databases, and records that wait in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.retention import TopicSettings
from incident_pipelines.stages.monitoring.landing_watch import LandingWatch, Looked
from incident_pipelines.stages.prepare import prepare
from incident_pipelines_tests.builders import EVENTS_YAML, order_bytes, write_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

DAY_MS = 86_400_000
STEP = timedelta(seconds=5)
CATALOG_YAML = "name: shop\nstart: 2020-01-01T00:00:00Z\n"


class Clock:
    """The real time when it was made, and from there on what it is told."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class WatchedTopic:
    """One topic, landed into `orders`, and the watch over it.

    Args:
        variables: of the owner, with the catalog's.
    """

    topic: str
    catalog: Catalog
    variables: Mapping[str, str]
    watch: LandingWatch
    clock: Clock
    broker: Topics

    def looks(self, count: int = 1) -> Looked:
        """Look so many times, 5 s apart by the clock; return the sums."""
        done = []
        for _ in range(count):
            done.append(self.watch.look())
            self.clock.now += STEP
        return Looked(sum(one.raised for one in done), sum(one.cleared for one in done))

    def signals(self) -> list[tuple[Any, ...]]:
        """Return (kind, severity, dataset, detail, is open)."""
        return query(
            self.variables["CONTROL_DATABASE_URL"],
            "SELECT kind, severity, dataset, detail, cleared_at IS NULL FROM monitoring.signals ORDER BY signal_id",
        )

    def settings(self) -> TopicSettings:
        return self.broker.settings([self.topic])[self.topic]

    def send(self, records: int, age: timedelta = timedelta(0), partition: int = 0) -> None:
        """Send records whose own time is so long ago."""
        send(self.variables["KAFKA_BOOTSTRAP_SERVERS"], self.topic, records, age, partition)

    def landed(self, following: int, partition: int = 0, topic_id: str | None = None, state: str = "active") -> None:
        """Write down, as the lander does, that a partition is landed up to an offset."""
        topic_id = topic_id or self.broker.described([self.topic])[self.topic].topic_id
        with psycopg.connect(driver_url(self.variables["WAREHOUSE_URL"])) as connection:
            row = connection.execute(
                "INSERT INTO landing.origins (contract, kind, topic, topic_id) VALUES ('orders', 'topic', %s, %s) "
                "RETURNING origin_id",
                (self.topic, topic_id),
            ).fetchone()
            assert row is not None
            connection.execute(
                "INSERT INTO landing.offsets (topic, partition, contract, origin_id, next, state) "
                "VALUES (%s, %s, 'orders', %s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE "
                "SET next = excluded.next, origin_id = excluded.origin_id, state = excluded.state",
                (self.topic, partition, row[0], following, state),
            )

    def commit(self, group: str, offset: int, partition: int = 0) -> None:
        """Commit an offset as a consumer group that nobody is a member of."""
        consumer = Consumer(
            {"bootstrap.servers": self.variables["KAFKA_BOOTSTRAP_SERVERS"], "group.id": group, "log_level": 0}
        )
        consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=False)
        consumer.close()


def send(servers: str, topic: str, records: int, age: timedelta = timedelta(0), partition: int = 0) -> None:
    """Send orders whose own time is so long ago."""
    at = int((datetime.now(UTC) - age).timestamp() * 1000)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 1, "log_level": 0})
    for _ in range(records):
        producer.produce(topic, order_bytes(), partition=partition, timestamp=at)
    assert producer.flush(20) == 0


def watched_topic(
    databases: Databases, folder: Path, topic: str, retention_days: int | None = 7
) -> Iterator[WatchedTopic]:
    """Give a topic that exists already, its catalog and empty tables.

    Args:
        retention_days: that the contract asks for.
    """
    contract = EVENTS_YAML.format(name="orders", topic=topic).replace(
        "customProperties:\n", "customProperties:\n- {property: consumers, value: [finance, growth]}\n"
    )
    if retention_days is not None:
        promise = f"slaProperties:\n- {{property: retention, value: {retention_days}, unit: d}}\n"
        contract = contract.replace("customProperties:\n", f"{promise}customProperties:\n")
    own = write_catalog(folder, {"orders.yaml": contract}, CATALOG_YAML)
    variables = {**databases.environment("owner"), **own}
    variables.pop("INCIDENT_PIPELINES_START", None)
    prepare(variables)
    for database, tables in (
        ("WAREHOUSE_URL", "landing.offsets, landing.origins"),
        ("CONTROL_DATABASE_URL", "monitoring.signals, monitoring.suspensions, monitoring.topic_changes"),
    ):
        query(variables[database], f"TRUNCATE {tables} CASCADE")
    catalog, clock = load_catalog(own), Clock()
    watch = LandingWatch(catalog, databases.environment("monitor"), clock)
    broker = Topics(variables["KAFKA_BOOTSTRAP_SERVERS"])
    try:
        yield WatchedTopic(topic, catalog, variables, watch, clock, broker)
    finally:
        watch.close()
        broker.close()
