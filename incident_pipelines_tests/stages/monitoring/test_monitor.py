"""Every fact becomes one signal, whatever dies, is down or commits late."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import GRADINGS, Fact, grade
from incident_pipelines.stages.monitoring.monitor import Monitor
from incident_pipelines.stages.prepare import prepare_control, prepare_warehouse
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query, wait_for

HOUR = datetime(2026, 3, 1, 10, tzinfo=UTC)
AGED_OUT = {"topic": "orders", "partition": 3, "origin_id": 1, "from_offset": 5, "to_offset": 17, "records_at_most": 12}
REFUSED = {
    "version": 7,
    "failed_rules": [{"rule": "order_id_is_unique", "rows": 50, "unexpected": 6, "share": 0.12, "max_share": 0.01}],
}


class Facts:
    """The facts of a warehouse and the signals of a control database."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.variables = databases.environment("monitor")

    @contextmanager
    def writer(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction of the warehouse."""
        with psycopg.connect(driver_url(self.databases.url("warehouse"))) as connection:
            yield connection

    def record(self, connection: psycopg.Connection[Any], kind: str = "offsets_aged_out", **detail: Any) -> int:
        row = connection.execute(
            "INSERT INTO landing.facts (kind, dataset, detail) VALUES (%s, 'orders', %s) RETURNING fact_id",
            (kind, json.dumps(detail or AGED_OUT)),
        ).fetchone()
        assert row
        return row[0]

    def record_many(self, count: int) -> None:
        query(
            self.databases.url("warehouse"),
            "INSERT INTO landing.facts (kind, dataset, detail) SELECT 'k', 'orders', '{}' FROM generate_series(1, %s)",
            count,
        )

    def sources(self) -> list[int]:
        """source_fact of every signal, in the order in which they were raised."""
        return [
            row[0] for row in query(self.signals_url, "SELECT source_fact FROM monitoring.signals ORDER BY signal_id")
        ]

    def fact_ids(self) -> list[int]:
        return [
            row[0] for row in query(self.databases.url("warehouse"), "SELECT fact_id FROM landing.facts ORDER BY 1")
        ]

    @property
    def signals_url(self) -> str:
        return self.databases.url("control")


@pytest.fixture
def facts(own_databases: Databases, tmp_path: Path) -> Facts:
    catalog, _ = orders_catalog(tmp_path / "catalog")
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    prepare_control(own_databases.url("control"))
    return Facts(own_databases)


class MonitorProcess:
    """`monitor run` in a process of its own."""

    def __init__(self, variables: dict[str, str], log: Path, failpoints: str = "") -> None:
        self.log = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "incident_pipelines.cli", "monitor", "run"],
                env={**os.environ, **variables, ENVIRONMENT_VARIABLE: failpoints},
                stdout=sink,
                stderr=sink,
            )

    def said(self, message: str) -> int:
        return self.log.read_text().count(f'"message": "{message}"')


@contextmanager
def running(variables: dict[str, str], log: Path) -> Iterator[MonitorProcess]:
    monitor = MonitorProcess(variables, log)
    try:
        yield monitor
    finally:
        monitor.process.kill()
        monitor.process.wait(10)


@pytest.mark.stack
def test_a_fact_becomes_one_signal_with_everything_a_person_needs(facts: Facts) -> None:
    with facts.writer() as connection:
        facts.record(connection)
        connection.execute(
            "INSERT INTO landing.facts (kind, dataset, window_start, window_end, detail) VALUES (%s, %s, %s, %s, %s)",
            ("window_refused", "orders", HOUR, HOUR.replace(hour=11), json.dumps(REFUSED)),
        )
        facts.record(connection, "never_heard_of", a=1)
        connection.execute("INSERT INTO landing.facts (kind, dataset, detail) VALUES ('odd', 'orders', '[1e400]')")
    monitor = Monitor(facts.variables)
    assert monitor.raise_signals() == 4
    assert monitor.raise_signals() == 0
    monitor.close()
    columns = "kind, severity, dataset, window_start, window_end, detail, occurred_at <= raised_at"
    first, refused, unknown, odd = query(
        facts.signals_url, f"SELECT {columns} FROM monitoring.signals ORDER BY signal_id"
    )
    assert first[:5] == ("offsets_aged_out", "critical", "orders", None, None)
    assert first[5].items() >= AGED_OUT.items()
    assert "orders[3] had dropped offsets 5 up to, not with, 17" in first[5]["summary"]
    assert first[6]
    assert refused[:5] == ("window_refused", "page", "orders", HOUR, HOUR.replace(hour=11))
    assert "orders 2026-03-01 10:00 to 2026-03-01 11:00 UTC was not published" in refused[5]["summary"]
    assert "6 of 50 rows break order_id_is_unique (12.00%, at most 1.00% may)" in refused[5]["summary"]
    assert unknown[:2] == ("never_heard_of", "warning")
    assert unknown[5]["a"] == 1
    assert odd[1] == "warning"
    assert "detail" in odd[5]


@pytest.mark.stack
def test_facts_that_commit_late_with_small_ids_are_not_passed_over(facts: Facts) -> None:
    monitor = Monitor(facts.variables)
    with facts.writer() as slow:
        small = facts.record(slow)
        with facts.writer() as fast:
            large = facts.record(fast)
        assert small < large
        assert monitor.raise_signals() == 0  # the fast one waits for the slow one
    assert monitor.raise_signals() == 2
    with facts.writer() as slow:
        slow.execute("SELECT pg_current_xact_id()")  # an old transaction whose fact gets a large id
        with facts.writer() as fast:
            facts.record(fast)
        assert monitor.raise_signals() == 0
        facts.record(slow)
    assert monitor.raise_signals() == 2
    with facts.writer() as undone:
        facts.record(undone)
        undone.rollback()
    assert monitor.raise_signals() == 0
    monitor.close()
    assert sorted(facts.sources()) == facts.fact_ids()


@pytest.mark.stack
def test_more_facts_than_a_page_and_two_monitors_at_once(facts: Facts) -> None:
    facts.record_many(2_500)
    monitors = [Monitor(facts.variables) for _ in range(2)]
    raised: list[int] = []
    threads = [threading.Thread(target=lambda m=monitor: raised.append(m.raise_signals())) for monitor in monitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for monitor in monitors:
        monitor.close()
    assert sorted(raised) == [0, 2_500]
    assert sorted(facts.sources()) == facts.fact_ids()


@pytest.mark.stack
@pytest.mark.parametrize("failpoint", ["monitor.raised=3", "monitor.before_commit", "monitor.after_commit"])
def test_killed_at_any_point_each_fact_is_one_signal(facts: Facts, failpoint: str, tmp_path: Path) -> None:
    facts.record_many(5)
    killed = MonitorProcess(facts.variables, tmp_path / "log", failpoint)
    assert killed.process.wait(30) == -signal.SIGKILL
    assert len(facts.sources()) == (5 if failpoint == "monitor.after_commit" else 0)
    facts.record_many(1)
    with running(facts.variables, tmp_path / "log"):
        wait_for(lambda: len(facts.sources()) >= 6, "all six are signals")
    assert sorted(facts.sources()) == facts.fact_ids()


@pytest.mark.stack
def test_the_unique_fact_holds_where_the_cursor_is_lost(facts: Facts) -> None:
    facts.record_many(3)
    monitor = Monitor(facts.variables)
    assert monitor.raise_signals() == 3
    query(facts.signals_url, "DELETE FROM monitoring.cursors")
    assert monitor.raise_signals() == 0
    monitor.close()
    assert len(facts.sources()) == 3


@pytest.mark.stack
def test_a_warehouse_made_again_gives_ids_anew_and_loses_no_fact(facts: Facts) -> None:
    facts.record_many(2)
    monitor = Monitor(facts.variables)
    assert monitor.raise_signals() == 2
    query(facts.databases.url("warehouse"), "TRUNCATE landing.facts RESTART IDENTITY")
    query(facts.signals_url, "UPDATE monitoring.cursors SET xid = xid + 1000000")  # as of a server that was further on
    facts.record_many(1)
    assert monitor.raise_signals() == 1
    query(facts.signals_url, "UPDATE monitoring.cursors SET xid = 0")
    assert monitor.raise_signals() == 0
    monitor.close()
    assert facts.sources() == [1, 2, None]


@pytest.mark.stack
@pytest.mark.parametrize("down", ["warehouse", "control"])
def test_with_a_database_down_the_monitor_waits_and_says_so(facts: Facts, down: str, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        gone = f"postgresql+psycopg://monitor@127.0.0.1:{taken.getsockname()[1]}/none"
        name = "WAREHOUSE_URL" if down == "warehouse" else "CONTROL_DATABASE_URL"
        with running({**facts.variables, name: gone}, tmp_path / "log") as monitor:
            wait_for(lambda: monitor.said("no signals can be raised now, will try again") >= 2, "it says so twice")
            assert monitor.process.poll() is None
            monitor.process.terminate()
            assert monitor.process.wait(20) == 0
    text = (tmp_path / "log").read_text()
    assert f"{'warehouse' if down == 'warehouse' else 'control database'} cannot be reached" in text
    assert "Traceback" not in text


@pytest.mark.stack
def test_it_goes_on_by_itself_and_stops_cleanly(facts: Facts, tmp_path: Path) -> None:
    name = facts.databases.names["warehouse"]
    with running(facts.variables, tmp_path / "log") as monitor:
        facts.record_many(1)
        wait_for(lambda: len(facts.sources()) == 1, "first signal")
        with facts.databases.stack.postgres.connect() as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')  # pyright: ignore[reportArgumentType, reportCallIssue]
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            wait_for(lambda: monitor.said("no signals can be raised now, will try again"), "it notices")
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # pyright: ignore[reportArgumentType, reportCallIssue]
        facts.record_many(1)
        wait_for(lambda: len(facts.sources()) == 2, "second signal")
        wait_for(lambda: monitor.said("monitor goes on"), "it says that it goes on")
        monitor.process.terminate()
        assert monitor.process.wait(20) == 0
    assert monitor.said("monitor stopped") == 1


@pytest.mark.stack
def test_the_monitor_may_only_read_the_warehouse(facts: Facts) -> None:
    for statement in ("DELETE FROM landing.facts", "UPDATE landing.facts SET kind = 'x'", "DELETE FROM landing.orders"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(facts.variables["WAREHOUSE_URL"], statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(facts.variables["CONTROL_DATABASE_URL"], "DELETE FROM monitoring.signals")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["topic", "partition", "stored_offsets", "failed_rules", "topic_id", "known_topic_id", "next"])
RULES = st.lists(st.dictionaries(st.sampled_from(["rule", "rows", "unexpected", "share", "max_share"]), JSON))


@given(
    kind=st.sampled_from([*GRADINGS, "other"]),
    detail=st.dictionaries(NAMES | st.text(), JSON | RULES, max_size=6),
    window=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_every_detail_can_be_told(kind: str, detail: dict[str, Any], window: datetime | None) -> None:
    summary = summarize(Fact(1, kind, "orders", window, window, detail, HOUR))
    assert summary
    assert grade(kind).severity in ("warning", "page", "critical")


def test_what_to_do_next_is_a_command_that_exists() -> None:
    recreated = {"topic": "orders", "topic_id": "B", "known_topic_id": "A", "stored_offsets": {"10": 4, "2": 9}}
    text = summarize(Fact(1, "topic_recreated", "orders", None, None, recreated, HOUR))
    assert "`incident-pipelines landing resume orders --from start`" in text
    assert "offset 9 of partition 2, offset 4 of partition 10" in text
    beyond = {"topic": "orders", "partition": 1, "next": 500, "log_end": 2}
    text = summarize(Fact(1, "offset_beyond_end", "orders", None, None, beyond, HOUR))
    assert "`incident-pipelines landing resume orders:1 --from start`" in text
    assert re.search(r"orders\[1\] ends at offset 2, but orders is landed up to 500", text)
