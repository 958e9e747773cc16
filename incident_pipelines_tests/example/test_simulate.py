"""Simulated history in real databases and real topics."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example import simulate_command
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.history import History, Slice
from incident_pipelines.example.history_rows import write_billing_rows
from incident_pipelines.example.prepare import history_is_loaded, load_history
from incident_pipelines.example.progress import minute_of, record_minutes
from incident_pipelines.example.records import GroundTruth
from incident_pipelines.example.settings import SEED
from incident_pipelines.example.simulate import Progress, Result, Simulation
from incident_pipelines.example.sinks import KafkaSink, LogRecord, LogSink
from incident_pipelines.example.topics import RETENTION_MS
from incident_pipelines.example.visits import World
from incident_pipelines_tests.example.conftest import Example

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
START = minute_of(NOW - timedelta(hours=30))
WORLD = World(seed=21, rate=1.0)


def _simulate(
    example: Example,
    start: int,
    end: int,
    world: World = WORLD,
    progressed: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Result:
    with closing(KafkaSink(example.settings)) as sink:
        return Simulation(example.settings, world, sink, progressed, stop).run(start, end)


def _count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return row[0] if row else 0


def test_two_stacks_get_equal_digests_however_the_range_is_cut(example: Example, second_example: Example) -> None:
    whole = _simulate(example, START, START + 40)
    first = _simulate(second_example, START, START + 13)
    second = _simulate(second_example, START + 13, START + 40)
    assert {topic: first.totals[topic] + second.totals[topic] for topic in TOPICS} == whole.totals
    assert whole.written == sum(total.events for total in whole.totals.values()) > 1_000
    assert whole.transactional_share >= 0.4
    with example.app() as one, second_example.app() as other:
        state = "SELECT registration_id, status, failure_reason, created_at, activated_at FROM registrations ORDER BY 1"
        assert one.execute(state).fetchall() == other.execute(state).fetchall()
    with example.billing() as one, second_example.billing() as other:
        state = "SELECT payment_id, status, external_transaction_id, captured_at FROM payments ORDER BY 1"
        assert one.execute(state).fetchall() == other.execute(state).fetchall()
        assert _count(one, "invoices") == _count(other, "invoices") > 0


def test_what_is_in_kafka_is_what_the_generator_made(example: Example) -> None:
    result = _simulate(example, START, START + 6)
    expected = {event.event_id: event for event in History(WORLD, START, START).advance(START + 6).events}
    for topic in TOPICS:
        records = example.records(topic)
        assert len(records) == result.totals[topic].events
        for record in records:
            event = expected.pop(json.loads(record.value() or b"")["event_id"])
            assert record.value() == event.value
            assert record.key() == event.key.encode()
            # CreateTime is the event's own time while the topic retains it.
            assert record.timestamp()[1] == event.time_us // 1000
    assert not expected
    assert result.timestamps == {"event_time": result.written, "time_of_sending": 0}


def test_sources_control_totals_and_records_agree(example: Example) -> None:
    result = _simulate(example, START, START + 6)
    truth = GroundTruth(example.settings.folder, durable=False)
    by_topic = Counter(one.topic for day in truth.days() for one in truth.read(day))
    audit = b"".join(path.read_bytes() for path in (example.settings.folder / "audit").iterdir()).splitlines()
    emitted = Counter(json.loads(line)["topic"] for line in audit)
    with example.app() as app, example.billing() as billing:
        totals: dict[str, int] = {}
        for connection in (app, billing):
            totals |= connection.execute("SELECT topic, sum(events)::int FROM control_totals GROUP BY 1").fetchall()  # pyright: ignore[reportCallIssue, reportArgumentType]
            assert _count(connection, "outbox_unpublished") == 0
        assert totals == {topic: result.totals[topic].events for topic in TOPICS} == by_topic
        assert emitted == {topic: totals[topic] for topic in ("registrations", "payments")}
        assert _count(app, "outbox") == totals["registrations"]
        assert _count(billing, "outbox") == totals["payments"]
        orphans = (
            "SELECT count(*) FROM registrations"
            " WHERE status IN ('captured', 'activated') AND registration_id <> ALL(%s)"
        )
        captured = [row[0] for row in billing.execute("SELECT registration_id FROM payments WHERE status = 'captured'")]
        assert app.execute(orphans, (captured,)).fetchone() == (0,)


def test_rows_are_found_by_when_they_were_written(example: Example) -> None:
    before = datetime.now(UTC)
    _simulate(example, START, START + 3)
    with example.app() as app:
        assert app.execute("SELECT count(*) FROM registrations WHERE updated_at < %s", (before,)).fetchone() == (0,)
        assert app.execute("SELECT count(*) FROM registrations WHERE created_at > %s", (before,)).fetchone() == (0,)


def test_running_it_again_writes_nothing(example: Example) -> None:
    first = _simulate(example, START, START + 5)
    again = _simulate(example, START, START + 5)
    assert again.written == 0
    assert again.totals == first.totals
    assert len(example.event_ids("page_views")) == first.totals["page_views"].events


def test_a_stopped_run_goes_on_where_it_stopped(
    example: Example, second_example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incident_pipelines.example.simulate.EVENTS_PER_SLICE", 1000)
    stop = threading.Event()
    world = World(22, 1.0)
    stopped = _simulate(
        example, START, START + 12, world, lambda progress: stop.set() if progress.events else None, stop
    )
    assert stopped.stopped_at is not None
    assert START < stopped.stopped_at < START + 12
    rest = _simulate(example, START, START + 12, world)
    assert rest.stopped_at is None
    assert rest.totals == _simulate(second_example, START, START + 12, world).totals
    assert stopped.written + rest.written == sum(total.events for total in rest.totals.values())
    for topic in TOPICS:
        ids = example.event_ids(topic)
        assert len(ids) == len(set(ids)) == rest.totals[topic].events


def test_a_crash_between_the_databases_is_completed(example: Example) -> None:
    part = History(WORLD, START, START).advance(START + 2)
    with example.billing() as billing, billing.transaction():
        write_billing_rows(billing, part, published=False)
        record_minutes(billing, WORLD, part.totals())
    result = _simulate(example, START, START + 4)
    assert result.stopped_at is None
    for topic in TOPICS:
        ids = example.event_ids(topic)
        assert len(ids) == len(set(ids)) == result.totals[topic].events


def test_a_crash_before_the_events_were_sent_is_completed(example: Example) -> None:
    class Crash(Exception):
        pass

    class CrashingSink(KafkaSink):
        def send(self, part: Slice) -> None:
            raise Crash

    with closing(CrashingSink(example.settings)) as sink, pytest.raises(Crash):
        Simulation(example.settings, WORLD, sink).run(START, START + 4)
    assert example.event_ids("registrations") == []
    result = _simulate(example, START, START + 4)
    for topic in TOPICS:
        ids = example.event_ids(topic)
        assert len(ids) == len(set(ids)) == result.totals[topic].events > 0


def test_events_older_than_the_retention_carry_the_time_of_sending(example: Example) -> None:
    sent = time.time() * 1000
    start = minute_of(NOW - timedelta(milliseconds=RETENTION_MS) - timedelta(hours=1))
    result = _simulate(example, start, start + 2)
    assert result.timestamps == {"event_time": 0, "time_of_sending": result.written}
    assert all(record.timestamp()[1] >= sent - 1000 for record in example.records("payments"))


class _Log:
    """Stands in for the landing log: appends a chunk once."""

    def __init__(self) -> None:
        self.chunks: dict[tuple[str, str], list[LogRecord]] = {}

    def __call__(self, contract: str, records: Iterable[LogRecord], chunk_key: str) -> int:
        if (contract, chunk_key) in self.chunks:
            return 0
        self.chunks[contract, chunk_key] = list(records)
        return len(self.chunks[contract, chunk_key])

    def values(self, contract: str) -> list[bytes]:
        return [value for (name, _), chunk in self.chunks.items() if name == contract for _, _, value in chunk]


def test_history_can_go_straight_into_the_log(example: Example) -> None:
    log = _Log()
    result = Simulation(example.settings, WORLD, LogSink(example.settings, WORLD, log)).run(START, START + 5)
    events = History(WORLD, START, START).advance(START + 5).events
    for topic in TOPICS:
        assert sorted(log.values(topic)) == sorted(event.value for event in events if event.topic == topic)
        assert example.records(topic) == []
        assert result.totals[topic].events == len(log.values(topic))
    with example.app() as app:
        assert _count(app, "outbox") == result.totals["registrations"].events
        assert _count(app, "outbox_unpublished") == 0


def test_the_first_history_is_loaded_once_and_handed_over(example: Example) -> None:
    log = _Log()
    environment = {
        **example.environment,
        "INCIDENT_PIPELINES_START": (NOW.replace(minute=0) - timedelta(hours=1)).isoformat(),
        "EXAMPLE_RATE": "1",
    }
    assert not history_is_loaded(example.settings.app_url)
    load_history(environment, log, NOW, lambda _: None)
    assert history_is_loaded(example.settings.app_url)
    chunks = len(log.chunks)
    load_history(environment, log, NOW + timedelta(minutes=3), lambda _: None)
    assert len(log.chunks) == chunks
    with example.app() as app, example.billing() as billing:
        unfinished = app.execute(
            "SELECT f.step, r.status, count(*) FROM sign_up_flows f JOIN registrations r USING (registration_id)"
            " GROUP BY 1, 2"
        ).fetchall()
        assert ("payment", "authorized") in {(step, status) for step, status, _ in unfinished}
        # Everything that has no end is handed over, and a payment that waits for its capture has its time.
        assert app.execute(
            "SELECT count(*) FROM registrations r WHERE status NOT IN ('activated', 'failed')"
            " AND NOT EXISTS (SELECT FROM sign_up_flows f WHERE f.registration_id = r.registration_id)"
        ).fetchone() == (0,)
        assert billing.execute(
            "SELECT count(*) FROM payments WHERE status = 'authorized' AND capture_due_at IS NULL"
        ).fetchone() == (0,)
    # What the live service finishes, no later simulation finishes as well.
    end = minute_of(NOW)
    world = World(SEED, 1.0)
    with example.app() as app:
        handed_over = {str(row[0]) for row in app.execute("SELECT registration_id FROM sign_up_flows")}
    later = Simulation(example.settings, world, LogSink(example.settings, world, log))
    later.run(end, end + 2)
    with example.app() as app:
        again = app.execute("SELECT correlation_id::text FROM outbox WHERE created_at >= %s", (NOW,)).fetchall()
    assert again
    assert not handed_over & {correlation_id for (correlation_id,) in again}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "2026-11-02", "--to", "2026-11-02"], "is not before"),
        (["--from", "2026-09-30T23:59Z", "--to", "2026-11-02"], "before the catalog's start, 2026-10-01T00:00Z"),
        (["--from", "2026-11-02", "--to", "2999-01-01"], "in the future"),
        (["--from", "yesterday", "--to", "2026-11-02"], "is no timestamp"),
        (["--from", "2026-11-02T00:00:30", "--to", "2026-11-03"], "not on a whole minute"),
        (["--from", "2026-11-02", "--to", "2026-11-03", "--rate", "0"], "--rate 0 is not in (0, 300]"),
        (["--from", "2026-11-02", "--to", "2026-11-03", "--via", "post"], "must be kafka or log"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    example: Example, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    result = _invoke(example, monkeypatch, options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_database_that_is_down_is_named(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("incident_pipelines.example.databases.CONNECT_TIMEOUT_SECONDS", 2)
    down = {
        **example.environment,
        "BILLING_DATABASE_URL": "postgresql+psycopg://billing_service:secret@127.0.0.1:9/billing",
    }
    settings = Example(example.settings, down)
    result = _invoke(settings, monkeypatch, ["--from", "2026-11-02T00:00", "--to", "2026-11-02T00:05"])
    assert result.exit_code == 2
    assert "127.0.0.1:9/billing does not answer" in " ".join(result.stderr.split())
    assert "secret" not in result.stderr


def test_the_command_prints_json(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    start = f"{NOW - timedelta(hours=3):%Y-%m-%dT%H:%MZ}"
    end = f"{NOW - timedelta(hours=2, minutes=50):%Y-%m-%dT%H:%MZ}"
    result = _invoke(example, monkeypatch, ["--from", start, "--to", end, "--rate", "1", "--seed", "5", "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["complete"]
    assert report["events"] == sum(topic["events"] for topic in report["topics"].values()) > 0
    assert {topic: len(entry["digest"]) for topic, entry in report["topics"].items()} == dict.fromkeys(TOPICS, 32)


def test_two_simulations_at_once_are_refused(example: Example) -> None:
    with example.app() as app:
        app.execute("SELECT pg_advisory_lock(hashtext('simulate'))")
        with pytest.raises(SourceUnavailable, match="another simulation"):
            _simulate(example, START, START + 1)


def _invoke(example: Example, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> Any:
    import typer

    for name, value in example.environment.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    app.command()(simulate_command.simulate)
    return CliRunner().invoke(app, options)
