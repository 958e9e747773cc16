"""Publishing against the physical limit: inserting the same rows, decoded and de-duplicated, into an empty table.

Prints the time of both and their ratio: for an hour of a raw dataset and a day of each mart, when the window is empty
yet, when it is unchanged and when 1 % of it was changed; then what a window of a range costs on top of its SQL.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, event, text

from bench.figures import Figures
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines.stages.publication.backfill import publish_range
from incident_pipelines.stages.publication.publish import publish_window, suite_of

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = TimeWindow.day_of(datetime(2026, 2, 10, tzinfo=UTC))
HOUR_OF_DAY = TimeWindow.hour_of(DAY.start + 10 * HOUR)
KINDS = ("payment_initiated", "payment_authorized", "payment_captured", "invoice_issued")
CHUNK = 20_000

EVENTS_OF_A_DAY = """
INSERT INTO raw.{table} SELECT {columns} FROM (
    SELECT r, k, md5('{table} ' || r || ' ' || k || :day)::uuid AS event, md5('case ' || r || :day)::uuid AS id,
           CAST(:day AS timestamptz) + r * interval '1 day' / :cases + k * interval '2 seconds' AS at
    FROM generate_series(0, :cases - 1) r, generate_series(0, {kinds} - 1) k ORDER BY r, k) e
"""
REGISTRATIONS = (
    "event, (ARRAY['registration_submitted', 'registration_created', 'account_activated'])[k + 1], '1.0.0', id, id, "
    "md5('user ' || r)::uuid, 'premium', 'EUR', 9.99, 'initiated', NULL, at, 'app', '5.2.0', "
    "(ARRAY['eu', 'us'])[1 + r % 2], (ARRAY['ios', 'android', 'web'])[1 + r % 3], 1, 0, r * 3 + k"
)
PAYMENTS = (
    f"event, (ARRAY[{', '.join(repr(kind) for kind in KINDS)}])[k + 1], '1.0.0', id, id, md5('payment ' || r)::uuid, "
    "md5('user ' || r)::uuid, 'tx' || r, 'premium', 'EUR', 9.99, 'captured', NULL, at, 'billing', '5.2.0', "
    "(ARRAY['eu', 'us'])[1 + r % 2], (ARRAY['ios', 'android', 'web'])[1 + r % 3], 1, 0, r * 4 + k"
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=100_000, help="events of the raw hour")
    arguments.add_argument("--cases", type=int, default=30_000, help="registrations of each of the marts' days")
    arguments.add_argument("--windows", type=int, default=720, help="hours of the range")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    figures = Figures("publish")
    with tempfile.TemporaryDirectory(prefix="ip-bench-") as folder:
        stack = Stack(Path(folder) / "home", ends_with_caller=True)
        stack.start_infrastructure(print)
        try:
            environment = {**stack.environment("owner"), "INCIDENT_PIPELINES_START": START.isoformat()}
            catalog = load_catalog(environment)
            prepare_warehouse(environment["WAREHOUSE_URL"], catalog)
            warehouse = postgres_engine(environment["WAREHOUSE_URL"], "bench")
            appender = LogAppender(environment["WAREHOUSE_URL"], catalog, clock=lambda: DAY.end)
            _prepare_suites(figures, catalog)
            _fill(warehouse, appender, options.events, options.cases)
            _raw_hour(figures, warehouse, catalog, options.events, options.rounds)
            _mart_days(figures, warehouse, catalog, options.rounds)
            _range(figures, warehouse, appender, catalog, options.windows)
            appender.close()
            warehouse.dispose()
        finally:
            stack.stop()


def _prepare_suites(figures: Figures, catalog: Catalog) -> None:
    started = time.perf_counter()
    for contract in (*catalog.landed.values(), *(mart.contract for mart in catalog.marts.values())):
        suite_of(contract)
    figures.row("check library, once a process", seconds=time.perf_counter() - started)


def _fill(warehouse: Engine, appender: LogAppender, events: int, cases: int) -> None:
    with warehouse.begin() as connection:
        connection.execute(text("INSERT INTO raw.app_plans VALUES ('premium', 'Premium', 'EUR', 9.99, now(), 1, 0, 0)"))
        for back in range(8):
            for table, columns, kinds in (("registrations", REGISTRATIONS, 3), ("payments", PAYMENTS, 4)):
                statement = EVENTS_OF_A_DAY.format(table=table, columns=columns, kinds=kinds)
                day = (DAY.start + timedelta(days=back)).isoformat()
                connection.execute(text(statement), {"day": day, "cases": cases})
        # The hour of the raw measurement is made from the log.
        _confirm(connection, "raw.payments")
        connection.execute(
            text("DELETE FROM raw.payments WHERE created_at >= :start AND created_at < :end"),
            {"start": HOUR_OF_DAY.start, "end": HOUR_OF_DAY.end},
        )
    _append(appender, HOUR_OF_DAY, events)
    _vacuum(warehouse)


def _append(appender: LogAppender, window: TimeWindow, events: int) -> None:
    step = (window.end - window.start) / events
    for first in range(0, events, CHUNK):
        records: list[tuple[int, bytes | None, bytes]] = []
        for number in range(first, min(first + CHUNK, events)):
            at = window.start + step * number
            records.append((int(at.timestamp() * 1000), None, _payment(window, number, at)))
        appender.append("payments", records)


def _payment(window: TimeWindow, number: int, at: datetime) -> bytes:
    case = f"{(number // 4) * 2654435761 % 2**32:08x}-0000-4000-8000-{int(window.start.timestamp()):012x}"
    event_id = f"{number * 2246822519 % 2**32:08x}-1111-5000-8000-{int(window.start.timestamp()):012x}"
    return (
        f'{{"event_id":"{event_id}","event_type":"{KINDS[number % 4]}","schema_version":"1.0.0",'
        f'"correlation_id":"{case}","registration_id":"{case}","payment_id":"{case}","user_id":"{case}",'
        f'"external_transaction_id":"tx-{number:012d}","plan_id":"premium","currency":"EUR","amount":9.99,'
        f'"status":"captured","failure_reason":null,"created_at":"{at.replace(tzinfo=None).isoformat()}Z",'
        '"source":"billing","app_version":"5.2.0","region":"eu","platform":"ios"}'
    ).encode()


def _raw_hour(figures: Figures, warehouse: Engine, catalog: Catalog, events: int, rounds: int) -> None:
    inside = f"created_at >= '{HOUR_OF_DAY.start.isoformat()}' AND created_at < '{HOUR_OF_DAY.end.isoformat()}'"
    figures.say(f"raw.payments, an hour of {events:,} events among {_count(warehouse, 'raw.payments'):,} rows")
    _publish(warehouse, catalog, "payments", HOUR_OF_DAY)
    scenarios = {
        "first publish": f"DELETE FROM raw.payments WHERE {inside}",
        "1 % changed": f"UPDATE raw.payments SET amount = amount + 1 WHERE {inside} AND landing_position % 100 = 0",
        "unchanged": None,
    }
    rows = {"raw.payments": inside}
    _compare(figures, warehouse, catalog, "payments", HOUR_OF_DAY, rows, scenarios, rounds, "the same rows", 0.3)
    empty = TimeWindow.hour_of(START)
    _publish(warehouse, catalog, "payments", empty)
    figures.row("nothing landed", ms=1000 * min(_publish(warehouse, catalog, "payments", empty) for _ in range(5)))


def _mart_days(figures: Figures, warehouse: Engine, catalog: Catalog, rounds: int) -> None:
    """Marts against their day's input rows, which they read, and against their own rows, which they write."""
    for name, mart in catalog.marts.items():
        _publish(warehouse, catalog, name, DAY)
        own = {f"marts.{name}": f"day = '{DAY.start.date()}'"}
        inputs = {
            f"raw.{source}": f"created_at >= '{DAY.start.isoformat()}' AND created_at < '{DAY.end.isoformat()}'"
            for source in mart.contract.inputs
        }
        figures.say(f"marts.{name}, a day of {_count(warehouse, f'marts.{name}'):,} rows")
        scenarios = {
            "first publish": f"DELETE FROM marts.{name} WHERE day = '{DAY.start.date()}'",
            "unchanged": None,
        }
        _compare(figures, warehouse, catalog, name, DAY, inputs, scenarios, rounds, "its input rows", 0.3)
        if name == "registrations_final":
            _compare(figures, warehouse, catalog, name, DAY, own, scenarios, rounds, "its own rows", None)


def _compare(
    figures: Figures,
    warehouse: Engine,
    catalog: Catalog,
    dataset: str,
    window: TimeWindow,
    rows: dict[str, str],
    scenarios: dict[str, str | None],
    rounds: int,
    what: str,
    at_least: float | None,
) -> None:
    """Measure publishing against inserting the rows of some tables (name → condition) into empty tables like them."""
    copies = {table: (f"public.decoded_{n}", f"public.reference_{n}") for n, table in enumerate(rows)}
    with warehouse.begin() as connection:
        for table, (decoded, reference) in copies.items():
            connection.execute(text(f"CREATE TABLE {decoded} AS SELECT * FROM {table} WHERE {rows[table]}"))
            connection.execute(text(f"CREATE TABLE {reference} (LIKE {table} INCLUDING ALL)"))
    for title, change in scenarios.items():
        ratios: list[float] = []
        for number in range(rounds):
            with warehouse.begin() as connection:
                for _, reference in copies.values():
                    connection.execute(text(f"TRUNCATE {reference}"))
            _checkpoint(warehouse)
            started = time.perf_counter()
            with warehouse.begin() as connection:
                for decoded, reference in copies.values():
                    connection.execute(text(f"INSERT INTO {reference} SELECT * FROM {decoded}"))
            seconds_inserting = time.perf_counter() - started
            if change:
                with warehouse.begin() as connection:
                    _confirm(connection, f"{'marts' if dataset in catalog.marts else 'raw'}.{dataset}")
                    connection.execute(text(change))
                _vacuum(warehouse, change.split()[2 if change.startswith("DELETE") else 1])
            seconds = _publish(warehouse, catalog, dataset, window)
            ratios.append(seconds_inserting / seconds)
            figures.row(title, round=number + 1, publish_s=seconds, insert_s=seconds_inserting, ratio=ratios[-1])
        figures.ratio(f"{dataset}, {title}: publish / insert of {what}", ratios, at_least)
    with warehouse.begin() as connection:
        for names in copies.values():
            connection.execute(text(f"DROP TABLE {', '.join(names)}"))


def _range(figures: Figures, warehouse: Engine, appender: LogAppender, catalog: Catalog, windows: int) -> None:
    hours = list(TimeWindow(START, START + windows * HOUR).split(HOUR))
    for hour in hours:
        _append(appender, hour, 40)
    _vacuum(warehouse)
    for title in ("first", "again, nothing changes"):
        with _sql_seconds(warehouse) as spent:
            started, cpu = time.perf_counter(), time.process_time()
            done = list(publish_range(warehouse, catalog, "payments", hours, root_run_id=title, owner="bench"))
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        figures.row(
            f"{len(done)} hours of 40 events, {title}",
            ms_a_window=1000 * seconds / len(done),
            of_it_sql=1000 * spent[0] / len(done),
            on_top_of_sql=1000 * (seconds - spent[0]) / len(done),
            cpu_of_the_process=1000 * cpu / len(done),
        )
    figures.say("-> asked for: <= 50 ms a window on top of its SQL (Dagster's own share is measured with its defs)")


def _publish(warehouse: Engine, catalog: Catalog, dataset: str, window: TimeWindow) -> float:
    started = time.perf_counter()
    publish_window(warehouse, catalog, dataset, window, owner="bench")
    return time.perf_counter() - started


@contextmanager
def _sql_seconds(warehouse: Engine) -> Iterator[list[float]]:
    """The seconds spent waiting for the database, commits left out."""
    spent = [0.0, 0.0]

    def before(*_: object) -> None:
        spent[1] = time.perf_counter()

    def after(*_: object) -> None:
        spent[0] += time.perf_counter() - spent[1]

    event.listen(warehouse, "before_cursor_execute", before)
    event.listen(warehouse, "after_cursor_execute", after)
    try:
        yield spent
    finally:
        event.remove(warehouse, "before_cursor_execute", before)
        event.remove(warehouse, "after_cursor_execute", after)


def _count(warehouse: Engine, table: str) -> int:
    with warehouse.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def _confirm(connection: Connection, table: str) -> None:
    """Say that the transaction may touch more of a table than its protected share."""
    connection.execute(text(f"SET LOCAL incident_pipelines.confirmed = '{table}'"))


def _vacuum(warehouse: Engine, table: str = "") -> None:
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM (ANALYZE) {table}"))


def _checkpoint(warehouse: Engine) -> None:
    """Begin each round alike; not between its two, or only the larger table would be logged page by page."""
    with warehouse.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))


if __name__ == "__main__":
    main()
