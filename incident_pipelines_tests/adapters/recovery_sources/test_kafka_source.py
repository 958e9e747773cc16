"""A topic is read again by time without trusting the order of its times, and its offsets are not counted."""

import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from incident_pipelines.adapters.recovery_sources import kafka
from incident_pipelines.adapters.recovery_sources.kafka import KafkaSource
from incident_pipelines.adapters.recovery_sources.source import Problem
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stack.stack import Stack
from incident_pipelines_tests.builders import order_bytes, orders_catalog
from incident_pipelines_tests.landing_tools import RememberingProducer, replayed

pytestmark = pytest.mark.stack

# Within the retention of every topic, and never in the future.
NOON = TimeWindow.hour_of(datetime.now(UTC) - timedelta(days=2)).start
HOURS = [TimeWindow(NOON + number * HOUR, NOON + (number + 1) * HOUR) for number in range(4)]
NewTopic = Callable[..., str]


def at(minutes: float) -> datetime:
    """Minutes after the first hour's start."""
    return NOON + timedelta(minutes=minutes)


def event(number: int, minutes: float) -> bytes:
    """An order of that time; equal numbers are the same event."""
    return order_bytes(event_id=f"00000000-0000-0000-0000-{number:012d}", occurred_at=at(minutes).isoformat())


def send(stack: Stack, topic: str, records: list[tuple[int, bytes, float]]) -> None:
    """Send (partition, value, minutes of its own time) in this order."""
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "linger.ms": 1, "log_level": 0})
    for partition, value, minutes in records:
        producer.produce(topic, value, partition=partition, timestamp=int(at(minutes).timestamp() * 1000))
    assert producer.flush(20) == 0


def source(stack: Stack, folder: Path, topic: str, **changes: str) -> KafkaSource:
    """A source for the orders of a topic."""
    variables: Mapping[str, str] = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers, **changes}
    return KafkaSource(orders_catalog(folder, topic)[0], variables)


def no_problem(problem: Problem) -> None:
    raise AssertionError(problem)


def test_times_out_of_order_are_all_found(
    stack: Stack, new_topic: NewTopic, tmp_path: Path, rng: random.Random
) -> None:
    topic = new_topic("orders", partitions=3)
    times = [rng.uniform(0, 4 * 60) for _ in range(600)]
    # The record's own time is up to half an hour off that of the event, on either side.
    records = [
        (rng.randrange(3), event(number, minutes), minutes + rng.uniform(-30, 30))
        for number, minutes in enumerate(times)
    ]
    records += rng.sample(records, 50)  # sent again
    rng.shuffle(records)
    send(stack, topic, records)
    found = source(stack, tmp_path, topic)
    for window, one in zip(HOURS, found.coverage("orders", HOURS), strict=True):
        expected = {
            event(n, minutes)[:60] for n, minutes in enumerate(times) if window.start <= at(minutes) < window.end
        }
        assert one.events == len(expected)
        read = [value for _, _, value in replayed(found, "orders", window, no_problem)]
        assert {value[:60] for value in read} == expected
        assert len(read) >= len(expected)


def test_offsets_are_no_counts(stack: Stack, new_topic: NewTopic, tmp_path: Path) -> None:
    """Aborted transactions and markers take offsets; the last offsets of the log are not records either."""
    topic = new_topic("orders")
    producer = RememberingProducer(stack.bootstrap_servers, topic, topic)
    today = TimeWindow.day_of(datetime.now(UTC))
    whole = TimeWindow(today.start - timedelta(days=7), today.end)
    for number in range(12):
        values: list[bytes | None] = [event(10 * number + n, 1) for n in range(10)]
        producer.send(values, abort=number % 3 == 2)
    (one,) = source(stack, tmp_path, topic).coverage("orders", [whole])
    assert one.events == 80
    assert one.replays
    assert len(replayed(source(stack, tmp_path, topic), "orders", whole, no_problem)) == 80


def test_no_offset_for_a_time_is_not_the_end(stack: Stack, new_topic: NewTopic, tmp_path: Path) -> None:
    """A producer whose clock stood still: its records are all older than the hour of their events."""
    topic = new_topic("orders", retention_ms=-1)
    send(stack, topic, [(0, event(number, 65), -5_000) for number in range(5)])
    found = source(stack, tmp_path, topic)
    assert [one.events for one in found.coverage("orders", HOURS)] == [0, 5, 0, 0]
    assert len(replayed(found, "orders", HOURS[1], no_problem)) == 5
    assert found.coverage("orders", HOURS)[1].until is None  # kept for good


def test_what_was_dropped_is_said_for_the_hours_it_was_dropped_of(
    stack: Stack, new_topic: NewTopic, tmp_path: Path
) -> None:
    topic = new_topic("orders", partitions=2)
    send(stack, topic, [(n % 2, event(n, n), n) for n in range(240)])
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    # Partition 0 loses the first hour and a half, partition 1 nothing.
    for deleted in admin.delete_records([TopicPartition(topic, 0, 45)]).values():
        deleted.result(timeout=10)
    found = source(stack, tmp_path, topic).coverage("orders", HOURS)
    assert [one.events for one in found] == [30, 45, 60, 60]
    assert ["dropped" in one.reason for one in found] == [True, True, False, False]
    assert "1 of 2 partitions" in found[0].reason
    for deleted in admin.delete_records([TopicPartition(topic, n, 120) for n in range(2)]).values():
        deleted.result(timeout=10)
    empty = source(stack, tmp_path, topic).coverage("orders", HOURS)
    assert [one.replays for one in empty] == [False] * 4
    assert all("2 of 2 partitions" in one.reason and "is empty now" in one.reason for one in empty)


def test_dead_letters_are_replayed_as_they_landed(stack: Stack, new_topic: NewTopic, tmp_path: Path) -> None:
    topic = new_topic("orders")
    bad = order_bytes(event_id=None, occurred_at=at(5).isoformat())
    send(stack, topic, [(0, event(1, 5), 5), (0, bad, 5), (0, b"no JSON", 5), (0, b"no JSON", 6)])
    found = source(stack, tmp_path, topic)
    assert [value for _, _, value in replayed(found, "orders", HOURS[0], no_problem)][1:] == [
        bad,
        b"no JSON",
        b"no JSON",
    ]
    assert found.coverage("orders", HOURS)[0].events == 3


def test_reading_ends_where_the_log_ended(stack: Stack, new_topic: NewTopic, tmp_path: Path) -> None:
    topic = new_topic("orders")
    send(stack, topic, [(0, event(number, 5), 5) for number in range(2_000)])
    stop, more = threading.Event(), iter(range(2_000, 10_000_000))

    def go_on() -> None:
        while not stop.is_set():
            send(stack, topic, [(0, event(next(more), 5), 5) for _ in range(100)])

    sender = threading.Thread(target=go_on)
    sender.start()
    try:
        read = len(replayed(source(stack, tmp_path, topic), "orders", HOURS[0], no_problem))
    finally:
        stop.set()
        sender.join()
    assert 2_000 <= read < next(more)


def test_too_many_are_bounded_and_not_read(
    stack: Stack, new_topic: NewTopic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic("orders")
    send(stack, topic, [(0, event(number, 5), 5) for number in range(20)])
    monkeypatch.setattr(kafka, "COUNTED_RECORDS", 10)
    one = source(stack, tmp_path, topic).coverage("orders", HOURS)[0]
    assert (one.replays, one.events, one.at_most, one.complete) == (True, None, 20, None)
    assert one.until is not None


def test_a_compacted_topic_says_so(stack: Stack, new_topic: NewTopic, tmp_path: Path) -> None:
    one = source(stack, tmp_path, new_topic("orders", cleanup_policy="compact")).coverage("orders", HOURS)[0]
    assert "compacted" in one.reason


def test_no_topic_is_no_outage(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source(stack, tmp_path, "nobody_made_this").coverage("orders", HOURS)[0]
    assert (one.replays, one.broken, one.reason) == (False, True, "there is no topic nobody_made_this")
    monkeypatch.setattr(kafka, "ANSWER_SECONDS", 1.0)
    silent = source(stack, tmp_path, "nobody_made_this", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert [(one.replays, one.events, one.broken) for one in silent.coverage("orders", HOURS)] == [
        (None, None, False)
    ] * 4
