"""The running PostgreSQL and Kafka of the stack."""

from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import Consumer, Producer

from incident_pipelines.stack.stack import Stack
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack


def test_a_message_goes_through_a_topic_of_ones_own(stack: Stack, new_topic: Callable[..., str]) -> None:
    topic = new_topic("greetings", partitions=2, retention_ms=3_600_000)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "enable.idempotence": True})
    producer.produce(topic, b"hello")
    assert producer.flush(10) == 0
    consumer = Consumer(
        {"bootstrap.servers": stack.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None
    assert message.value() == b"hello"


def test_each_database_lets_in_its_own_roles_only(databases: Databases) -> None:
    def connect(purpose: str, role: str) -> None:
        url = databases.url(purpose, role).replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as connection:
            connection.execute("SELECT 1")

    connect("app", "app_service")
    connect("app", "source_reader")
    connect("warehouse", "lander")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        connect("app", "lander")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        connect("warehouse", "source_reader")
