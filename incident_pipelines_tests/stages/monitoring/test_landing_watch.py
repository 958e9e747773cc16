"""A retention behind our back and landing that stands still are one signal each, which clears by itself."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)
from sqlalchemy import text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.kafka import topics
from incident_pipelines.adapters.stores.suspensions import resume, suspend, suspensions
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.stages.landing.retention import TopicCommandRefused, restore_retention
from incident_pipelines.stages.monitoring.landing_watch import LandingWatch
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import lander, query, wait_for
from incident_pipelines_tests.stages.monitoring.test_monitor import running
from incident_pipelines_tests.watched_topics import DAY_MS, WatchedTopic, watched_topic

pytestmark = pytest.mark.stack

NewTopic = Callable[..., str]


@pytest.fixture
def watched(databases: Databases, tmp_path: Path, new_topic: NewTopic) -> Iterator[WatchedTopic]:
    topic = new_topic("orders", partitions=2, retention_ms=14 * DAY_MS, segment_ms=3_600_000)
    yield from watched_topic(databases, tmp_path / "catalog", topic)


@pytest.fixture
def unpromised(databases: Databases, tmp_path: Path, new_topic: NewTopic) -> Iterator[WatchedTopic]:
    """A topic whose contract asks for no retention."""
    topic = new_topic("orders", retention_ms=14 * DAY_MS)
    yield from watched_topic(databases, tmp_path / "catalog", topic, retention_days=None)


def test_a_retention_below_its_floor_is_one_signal_until_it_is_put_back(watched: WatchedTopic) -> None:
    assert watched.looks(2).raised == 0
    watched.broker.set_retention(watched.topic, 3_600_000)
    assert watched.looks(3).raised == 1
    ((kind, severity, dataset, detail, is_open),) = watched.signals()
    assert (kind, severity, dataset, is_open) == ("retention_below_floor", "page", "orders", True)
    assert (detail["topic"], detail["retention_ms"]) == (watched.topic, 3_600_000)
    assert (detail["floor_ms"], detail["floor_reason"]) == (7 * DAY_MS, "the contract")
    assert "after 1h, but has to keep them for 7d (the contract)" in detail["summary"]
    # What it was, where that is known; else its floor.
    forgetful = {name: value for name, value in watched.variables.items() if name != "CONTROL_DATABASE_URL"}
    restored = restore_retention(forgetful, watched.catalog, watched.topic)
    assert (restored.before_ms, restored.after_ms) == (3_600_000, 7 * DAY_MS)
    watched.broker.set_retention(watched.topic, 3_600_000)
    restored = restore_retention(watched.variables, watched.catalog, watched.topic)
    assert (restored.before_ms, restored.after_ms) == (3_600_000, 14 * DAY_MS)
    again = restore_retention(watched.variables, watched.catalog, watched.topic)
    assert (again.before_ms, again.after_ms) == (14 * DAY_MS, 14 * DAY_MS)
    resource = ConfigResource(ResourceType.TOPIC, watched.topic)
    admin = AdminClient({"bootstrap.servers": watched.variables["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0})
    assert admin.describe_configs([resource])[resource].result(10)["segment.ms"].value == "3600000"
    assert watched.looks().cleared == 1
    # The same again is a new signal.
    watched.broker.set_retention(watched.topic, 3_600_000)
    assert watched.looks().raised == 1


def test_what_is_longer_or_unlimited_is_left_alone(watched: WatchedTopic) -> None:
    for retention_ms in (7 * DAY_MS, 30 * DAY_MS, -1):
        watched.broker.set_retention(watched.topic, retention_ms)
        assert watched.looks().raised == 0
        assert restore_retention(watched.variables, watched.catalog, watched.topic).after_ms == retention_ms
        assert watched.settings().retention_ms == retention_ms
    with pytest.raises(TopicCommandRefused, match=f"no contract reads topic 'none'; one of {watched.topic}"):
        restore_retention(watched.variables, watched.catalog, "none")


def test_an_old_record_that_waits_for_landing_lifts_the_floor(unpromised: WatchedTopic) -> None:
    unpromised.send(1, timedelta(days=8, minutes=1))
    unpromised.send(3, timedelta(hours=1))
    unpromised.landed(0)
    assert unpromised.looks(6).raised == 0  # it may be landed at once
    unpromised.looks(2)
    found = {kind: detail for kind, _, _, detail, _ in unpromised.signals()}
    assert found.keys() == {"retention_below_floor", "landing_stalled", "landing_lag_near_retention"}
    assert found["retention_below_floor"]["floor_reason"] == "2 x the lag of landing, 8d"
    assert found["landing_lag_near_retention"]["lag_seconds"] >= 8 * 86_400
    after = restore_retention(unpromised.variables, unpromised.catalog, unpromised.topic).after_ms
    assert 32 * DAY_MS < after < 33 * DAY_MS
    unpromised.looks()
    assert [kind for kind, *_, is_open in unpromised.signals() if is_open] == ["landing_stalled"]
    unpromised.landed(1)
    assert unpromised.looks().cleared == 1


def test_without_the_warehouse_the_contract_is_still_put_back(watched: WatchedTopic) -> None:
    watched.broker.set_retention(watched.topic, 3_600_000)
    variables = {**watched.variables, "WAREHOUSE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    assert restore_retention(variables, watched.catalog, watched.topic).after_ms == 7 * DAY_MS


def test_a_group_that_is_behind_counts_as_long_as_it_is(unpromised: WatchedTopic) -> None:
    unpromised.send(2, timedelta(days=9, minutes=1))
    unpromised.landed(2)
    unpromised.commit(f"billing-{unpromised.topic}", 1)
    unpromised.looks(8)
    ((kind, _, _, detail, is_open),) = unpromised.signals()
    assert (kind, is_open) == ("retention_below_floor", True)
    assert detail["floor_reason"].startswith(f"2 x the lag of billing-{unpromised.topic}, 9d")
    unpromised.commit(f"billing-{unpromised.topic}", 2)
    assert unpromised.looks().cleared == 1


def test_of_groups_that_are_not_told_nothing_is_right(
    unpromised: WatchedTopic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unpromised.send(2, timedelta(days=9, minutes=1))
    unpromised.landed(1)
    unpromised.looks(8)
    assert sorted(kind for kind, *_ in unpromised.signals()) == [
        "landing_lag_near_retention",
        "landing_stalled",
        "retention_below_floor",
    ]

    def not_told(self: topics.Topics, names: object, groups: object) -> None:
        raise SourceUnavailable("the coordinator is still loading")

    monkeypatch.setattr(topics.Topics, "group_offsets", not_told)
    unpromised.landed(2)
    assert unpromised.looks(3).cleared == 2  # landing is known all the same
    assert [kind for kind, *_, is_open in unpromised.signals() if is_open] == ["retention_below_floor"]
    assert sum("groups cannot be looked at" in record.getMessage() for record in caplog.records) == 1
    monkeypatch.undo()
    assert unpromised.looks().cleared == 1


def test_landing_that_stands_still_is_one_signal_until_it_moves(watched: WatchedTopic, tmp_path: Path) -> None:
    watched.send(20)
    watched.landed(20)
    assert watched.looks(8).raised == 0
    watched.send(10)
    assert watched.looks(6).raised == 0
    assert watched.looks(4).raised == 1
    ((kind, severity, _, detail, _),) = watched.signals()
    assert (kind, severity) == ("landing_stalled", "page")
    assert (detail["partitions"], detail["lag"], detail["next_offsets"]) == ([0], 10, {"0": 20})
    assert "10 offsets wait in partitions 0" in detail["summary"]
    with lander(watched.variables, tmp_path / "lander.log", group=f"group-{watched.topic}"):
        landed = "SELECT 1 FROM landing.offsets WHERE partition = 0 AND next = 30"
        wait_for(lambda: query(watched.variables["WAREHOUSE_URL"], landed), "10 more landed")
    done = watched.looks(2)
    assert (done.raised, done.cleared) == (0, 1)


def test_what_was_never_landed_stands_still_too(watched: WatchedTopic) -> None:
    watched.send(3, partition=1)
    assert watched.looks(7).raised == 1
    assert watched.signals()[0][3]["partitions"] == [1]


def test_stopped_partitions_and_former_topics_have_signals_of_their_own(watched: WatchedTopic) -> None:
    watched.send(3)
    watched.send(3, partition=1)
    watched.landed(1, state="stopped")
    watched.landed(1, partition=1, topic_id="of the one before")
    assert watched.looks(9).raised == 0


def test_a_silent_broker_changes_nothing(
    watched: WatchedTopic, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.broker.set_retention(watched.topic, 1_000)
    assert watched.looks().raised == 1
    monkeypatch.setattr(topics, "ANSWER_SECONDS", 0.3)
    nowhere = {**databases.environment("monitor"), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    blind = LandingWatch(watched.catalog, nowhere, watched.clock)
    with pytest.raises(SourceUnavailable, match=f"Kafka at 127.0.0.1:1 does not describe topic {watched.topic}"):
        blind.look()
    blind.close()
    assert [is_open for *_, is_open in watched.signals()] == [True]


def test_a_topic_that_does_not_exist_is_told_once(
    databases: Databases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for watched in watched_topic(databases, tmp_path, "nowhere_to_be_found"):
        with caplog.at_level(logging.WARNING):
            assert watched.looks(8).raised == 0
        assert sum("the broker has no such topic" in record.getMessage() for record in caplog.records) == 1


def test_a_suspended_watch_raises_nothing_until_its_time_is_over(
    watched: WatchedTopic, caplog: pytest.LogCaptureFixture
) -> None:
    control = postgres_engine(watched.variables["CONTROL_DATABASE_URL"], "tests")
    now = watched.clock.now
    with control.begin() as connection:
        suspend(connection, "retention", now + timedelta(minutes=10), "someone", "a first reason", now)
        suspend(connection, "retention", now + timedelta(minutes=1), "me", "a drill", now)
        assert [one.because for one in suspensions(connection, now).values()] == ["a drill"]
    watched.broker.set_retention(watched.topic, 3_600_000)
    watched.send(3)
    with caplog.at_level(logging.INFO):
        assert watched.looks(12).raised == 1  # the other watch goes on
        assert [kind for kind, *_ in watched.signals()] == ["landing_stalled"]
        assert watched.looks().raised == 1
    said = [record.getMessage() for record in caplog.records]
    assert sum("this watch is suspended" in one for one in said) == 1
    assert sum("this watch is no longer suspended" in one for one in said) == 1
    with control.begin() as connection:
        assert not resume(connection, "retention", "me", watched.clock.now)
        suspend(connection, "retention", watched.clock.now + timedelta(minutes=1), "me", "again", watched.clock.now)
        assert resume(connection, "retention", "me", watched.clock.now)
        assert not suspensions(connection, watched.clock.now)
    control.dispose()
    ended = query(watched.variables["CONTROL_DATABASE_URL"], "SELECT ended_by FROM monitoring.suspensions ORDER BY 1")
    assert ended == [("me",), ("me",), (None,)]


def test_two_watches_raise_one_signal(watched: WatchedTopic, databases: Databases) -> None:
    watched.broker.set_retention(watched.topic, 3_600_000)
    other = LandingWatch(watched.catalog, databases.environment("monitor"), watched.clock)
    assert [watched.watch.look().raised, other.look().raised] == [1, 0]
    other.close()


def test_the_monitor_process_watches_topics(watched: WatchedTopic, databases: Databases, tmp_path: Path) -> None:
    variables = {**watched.variables, **databases.environment("monitor")}
    variables.pop("INCIDENT_PIPELINES_START", None)
    watched.broker.set_retention(watched.topic, 3_600_000)
    with running(variables, tmp_path / "log") as monitor:
        wait_for(watched.signals, "a signal")
        monitor.process.terminate()
        assert monitor.process.wait(20) == 0
    assert [kind for kind, *_ in watched.signals()] == ["retention_below_floor"]


def test_processes_may_read_suspensions_and_not_make_them(watched: WatchedTopic, databases: Databases) -> None:
    for role in ("monitor", "publisher"):
        engine = postgres_engine(databases.environment(role)["CONTROL_DATABASE_URL"], "tests")
        with engine.begin() as connection:
            assert not suspensions(connection, watched.clock.now)
        for statement in (
            "INSERT INTO monitoring.suspensions (watch, began_at, until, by, because) "
            "VALUES ('landing', now(), now() + interval '1 h', 'me', 'quiet')",
            "UPDATE monitoring.suspensions SET until = now()",
            "DELETE FROM monitoring.topic_changes",
        ):
            with pytest.raises(Exception, match="permission denied"), engine.begin() as connection:
                connection.execute(text(statement))
        engine.dispose()
