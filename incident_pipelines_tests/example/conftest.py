"""An example of one's own: fresh databases, topics under a prefix, and a folder for its files."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from incident_pipelines.example.databases import connect, create_tables
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.settings import Settings, settings_from
from incident_pipelines.example.topics import create_topics
from incident_pipelines_tests.conftest import Databases


@dataclass(frozen=True)
class Example:
    """An example and the variables that a process of it gets."""

    settings: Settings
    environment: Mapping[str, str]

    def app(self) -> psycopg.Connection:
        """A connection to the app database that commits each statement."""
        return connect(self.settings.app_url, autocommit=True)

    def billing(self) -> psycopg.Connection:
        """A connection to the billing database that commits each statement."""
        return connect(self.settings.billing_url, autocommit=True)

    def records(self, topic: str) -> list[Message]:
        """All committed records of a topic, by partition and offset."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka,
                "group.id": "example tests",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        name = self.settings.topic_prefix + topic
        try:
            partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
            consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
            found: list[Message] = []
            at_end: set[int] = set()
            while len(at_end) < len(partitions):
                for message in consumer.consume(10_000, 0.2):
                    if message.error():
                        at_end.add(message.partition() or 0)
                    else:
                        found.append(message)
            return found
        finally:
            consumer.close()

    def event_ids(self, topic: str) -> list[str]:
        """The event ids of all committed records of a topic."""
        return [json.loads(record.value() or b"")["event_id"] for record in self.records(topic)]


def _example(databases: Databases, folder: Path) -> Iterator[Example]:
    prefix = f"t{secrets.token_hex(4)}_"
    environment = {
        **databases.environment("owner"),
        "EXAMPLE_TOPIC_PREFIX": prefix,
        "INCIDENT_PIPELINES_HOME": str(folder),
        "INCIDENT_PIPELINES_START": "2026-10-01T00:00:00Z",
    }
    settings = settings_from(environment)
    names = [prefix + topic for topic in TOPICS]
    create_topics(settings.kafka, names)
    create_tables(settings)
    yield Example(settings, environment)
    admin = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 0})
    for deleted in admin.delete_topics(names).values():
        deleted.result(timeout=10)


@pytest.fixture
def example(own_databases: Databases, tmp_path: Path) -> Iterator[Example]:
    """An example with empty databases and topics."""
    yield from _example(own_databases, tmp_path / "home")


@pytest.fixture
def second_example(databases: Databases, tmp_path: Path) -> Iterator[Example]:
    """Another one beside it; for one test of a module."""
    yield from _example(databases, tmp_path / "second home")
