"""Settings and offsets of topics as the real broker tells them; what is no record is not taken for one."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from incident_pipelines.adapters.kafka import topics
from incident_pipelines.adapters.kafka.consumer import OffsetBounds
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.retention import TopicSettings
from incident_pipelines.stack.stack import Stack
from incident_pipelines_tests.landing_tools import RememberingProducer, wait_for
from incident_pipelines_tests.watched_topics import send

pytestmark = pytest.mark.stack

NewTopic = Callable[..., str]
BROKERS_DEFAULT_MS = 7 * 86_400_000


@pytest.fixture
def broker(stack: Stack) -> Iterator[Topics]:
    broker = Topics(stack.bootstrap_servers)
    yield broker
    broker.close()


def test_a_retention_is_set_told_and_taken_away_again(broker: Topics, new_topic: NewTopic) -> None:
    topic = new_topic("settings", cleanup_policy="compact,delete", retention_bytes=5_000)
    wait_for(lambda: broker.settings([topic]), "the broker to know the topic")
    described = broker.settings([topic, "no_such_topic"])
    assert described == {topic: TopicSettings(topic, BROKERS_DEFAULT_MS, 5_000, False, "compact,delete")}
    for retention_ms in (3_600_000, -1):
        now = broker.set_retention(topic, retention_ms)
        assert (now.retention_ms, now.overridden, now.retention_bytes) == (retention_ms, True, 5_000)
    assert broker.set_retention(topic, None) == described[topic]
    with pytest.raises(SourceUnavailable, match="does not change the retention of topic no_such_topic"):
        broker.set_retention("no_such_topic", 1)


def test_the_next_unread_record_is_found_whatever_lies_before_it(
    stack: Stack, broker: Topics, new_topic: NewTopic
) -> None:
    topic = new_topic("times", partitions=4)
    before = datetime.now(UTC)
    producer = RememberingProducer(stack.bootstrap_servers, topic, topic)
    producer.send([b"kept"], partition=0)  # 0, and its mark 1
    producer.send([b"gone", b"gone"], partition=0, abort=True)  # 2, 3, and 4
    producer.send([b"kept"], partition=0)  # 5, 6
    producer.send([b"gone"], partition=1, abort=True)
    send(stack.bootstrap_servers, topic, 5, timedelta(days=3), partition=2)
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    for future in admin.delete_records([TopicPartition(topic, 2, 3)]).values():
        future.result(10)
    places = [(topic, number) for number in range(4)]
    assert list(broker.described([topic])[topic].partitions) == [0, 1, 2, 3]
    bounds = broker.bounds([*places, ("no_such_topic", 0)])
    assert bounds[topic, 0] == OffsetBounds(0, 7)
    assert bounds[topic, 2] == OffsetBounds(3, 5)
    assert bounds[topic, 3] == OffsetBounds(0, 0)
    assert bounds.keys() == set(places)
    asked = {places[0]: 1, places[1]: 0, places[2]: 1}
    found = broker.written_at(asked)
    assert found.keys() == {places[0], places[1]}  # offset 1 of partition 2 is no longer there
    first, nothing = found[places[0]], found[places[1]]
    assert nothing is None
    assert first is not None
    assert before - timedelta(seconds=1) < first < datetime.now(UTC) + timedelta(seconds=1)
    for _ in range(3):  # the same reader, again and elsewhere
        (old,) = broker.written_at({places[2]: 3}).values()
        assert old is not None
        assert timedelta(days=3) <= datetime.now(UTC) - old < timedelta(days=3, minutes=5)
    assert broker.written_at({}) == {}


def test_a_silent_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "ANSWER_SECONDS", 0.2)
    broker = Topics("127.0.0.1:1")
    for ask, said in (
        (lambda: broker.described(["orders"]), "does not describe topic orders"),
        (lambda: broker.settings(["orders"]), "does not tell the settings of topic orders"),
        (lambda: broker.set_retention("orders", 1), "does not change the retention of topic orders"),
        (lambda: broker.bounds([("orders", 1)]), r"does not tell the offsets of orders\[1\]"),
        (broker.groups, "does not list its groups"),
    ):
        with pytest.raises(SourceUnavailable, match=f"Kafka at 127.0.0.1:1 {said}"):
            ask()
    broker.close()
