"""The landing log is a recovery source: each event counts once, whatever came twice or under two origins."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from incident_pipelines.adapters.recovery_sources.landing_log import LandingLogSource
from incident_pipelines.adapters.recovery_sources.source import Problem
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import order_bytes, orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query, replayed

pytestmark = pytest.mark.stack

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
NINE_MS = int(NINE.timestamp() * 1000)
HOURS = [TimeWindow(NINE + number * HOUR, NINE + (number + 1) * HOUR) for number in range(3)]


def test_each_event_counts_once(own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    appender = LogAppender(own_databases.url("warehouse"), catalog)
    one, other, edge = (
        order_bytes(occurred_at=at)
        for at in ("2026-03-01T09:00:00Z", "2026-03-01T09:59:59.999999Z", "2026-03-01T10:00:00Z")
    )
    nine = [(NINE_MS, b"k", value) for value in (one, other, one, b"no JSON", b"no JSON", b"nor this")]
    appender.append("orders", [*nine, (NINE_MS, None, edge)])
    appender.append("orders", nine[:2], kind="recovery")
    appender.close()
    source = LandingLogSource(catalog, own_databases.environment("publisher"))
    found = source.coverage("orders", HOURS)
    assert [(one.replays, one.events, one.from_topics, one.until) for one in found] == [
        (True, 4, 0, None),
        (True, 1, 0, None),
        (False, 0, 0, None),
    ]
    problems: list[Problem] = []
    assert replayed(source, "orders", HOURS[0], problems.append) == nine + nine[:2]
    assert replayed(source, "orders", HOURS[1], problems.append) == [(NINE_MS, None, edge)]
    assert problems == []


def test_a_gap_is_named_in_the_windows_that_it_may_touch(own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    query(
        own_databases.url("warehouse"),
        "WITH o AS (INSERT INTO landing.origins (contract, kind, topic, topic_id) VALUES ('orders', 'topic', 't', 'i') "
        "RETURNING origin_id) INSERT INTO landing.gaps (contract, topic, partition, origin_id, from_offset, to_offset, "
        "last_landed_at, detected_at) SELECT 'orders', 't', 0, origin_id, 10, 20, %s, %s FROM o",
        NINE + HOUR / 2,
        NINE + HOUR,
    )
    found = LandingLogSource(catalog, own_databases.environment("publisher")).coverage("orders", HOURS)
    assert ["offsets 10 to 20 of t[0] had aged out" in one.reason for one in found] == [True, False, False]


def test_it_reads_and_cannot_write(own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    source = LandingLogSource(catalog, own_databases.environment("owner"))
    with source._reading() as connection, pytest.raises(Exception, match="read-only transaction"):  # pyright: ignore[reportPrivateUsage]
        connection.execute("CREATE TABLE mine (n int)")


def test_silence_is_unknown(tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    whole = [TimeWindow(NINE, NINE + DAY)]
    for variables in ({}, {"WAREHOUSE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}):
        source = LandingLogSource(catalog, variables)
        assert [(one.replays, one.events) for one in source.coverage("orders", whole)] == [(None, None)]
        with pytest.raises(SourceUnavailable):
            replayed(source, "orders", whole[0], lambda problem: None)
