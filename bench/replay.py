"""Replaying against landing for the first time: the same events, from each recovery source, into raw and marts.

Prints, for each source, the time of a replay with its publishing, and the ratio to landing the events from Kafka and
publishing them the first time; without the guardrail. Then, with it, the measured rate against the cap.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from bench.figures import Figures
from bench.landing import CONTRACT, _events, _fill, _land
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.stores.incidents import insert_incident
from incident_pipelines.adapters.stores.incidents_work import latest_plan, store_plan
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.incident import Actor, Incident
from incident_pipelines.core.recovery.coverage import AUDIT_LOG, DATABASE_EXTRACT, KAFKA
from incident_pipelines.core.recovery.guardrails import Guardrails
from incident_pipelines.core.recovery.plan import Choice, Replay
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.example.databases import create_tables
from incident_pipelines.example.settings import settings_from
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import refresh
from incident_pipelines.stages.recovery.replay import Replayer

SOURCES = (DATABASE_EXTRACT, AUDIT_LOG, KAFKA)
FIRST_HOUR = datetime(2026, 6, 1, tzinfo=UTC)
EVENTS_AN_HOUR = 180_000
BENCH = Actor("person", "bench")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--cap", type=float, default=4_000, help="events a second of the guarded replay")
    options = arguments.parse_args()
    figures = Figures("replay")
    with tempfile.TemporaryDirectory(prefix="ip-bench-") as folder:
        stack = Stack(Path(folder) / "home", ends_with_caller=True)
        stack.start_infrastructure(print)
        try:
            environment = {**stack.environment("owner"), "INCIDENT_PIPELINES_START": "2026-01-01"}
            catalog = prepare(environment)
            create_tables(settings_from(environment))
            values = list(_events(options.events))
            _fill(stack.bootstrap_servers, values)
            _keep(environment, values)
            bench = _Bench(environment, load_catalog(environment), Path(folder), values)
            del values, catalog
            figures.say(f"{options.events:,} events of {CONTRACT}, {len(bench.windows)} hours")
            ratios: dict[str, list[float]] = {name: [] for name in ("landing_log", *SOURCES)}
            for _ in range(options.rounds):
                bench.empty()
                rate, _ = _land(environment, Path(folder), options.events, members=1)
                landing, publishing = options.events / rate, bench.publish()
                first = landing + publishing
                figures.row("landed the first time", land_s=landing, publish_s=publishing)
                bench.empty_published()
                again = bench.publish()
                ratios["landing_log"].append(first / again)
                figures.row("landing_log", publish_s=again, ratio=first / again)
                for name in SOURCES:
                    bench.empty()
                    replayed = bench.replay(name, Guardrails(None, 2 * options.events))
                    publishing = bench.publish()
                    ratios[name].append(first / (replayed + publishing))
                    figures.row(name, replay_s=replayed, publish_s=publishing, ratio=ratios[name][-1])
            for name, measured in ratios.items():
                figures.ratio(f"replay from {name} / landing the first time", measured, at_least=0.7)
            bench.empty()
            some = min(options.events, EVENTS_AN_HOUR)
            seconds = bench.replay(DATABASE_EXTRACT, Guardrails(options.cap, 2 * some), bench.windows[:1])
            figures.row("guarded", events_per_s=some / seconds, cap_per_s=options.cap)
            figures.ratio("rate of a guarded replay / its cap (at most 1)", [some / seconds / options.cap], 0.95)
        finally:
            stack.stop()


class _Bench:
    def __init__(self, environment: Mapping[str, str], catalog: Catalog, folder: Path, values: list[bytes]) -> None:
        self._environment = dict(environment)
        self._catalog = catalog
        hours = -(-len(values) // EVENTS_AN_HOUR)
        self.windows = list(TimeWindow(FIRST_HOUR, FIRST_HOUR + hours * HOUR).split(HOUR))
        audit = folder / "audit"
        audit.mkdir()
        self._environment["APP_AUDIT_LOG"] = str(audit)
        with (audit / f"registrations-{FIRST_HOUR:%Y-%m-%d}.jsonl").open("wb") as file:
            for value in values:
                file.write(b'{"key":"%b","value":%b}\n' % (value[13:49], value))
        self._warehouse: Engine = postgres_engine(environment["WAREHOUSE_URL"], "bench")
        self._control: Engine = postgres_engine(environment["CONTROL_DATABASE_URL"], "bench")
        self._plans = 0
        with self._control.begin() as connection:
            now = datetime.now(UTC)
            incident = Incident(
                incident_id="",
                type="data_loss",
                cause="bench",
                severity="P3",
                state="detected",
                title="benchmark",
                source="person",
                datasets=(CONTRACT,),
                window=None,
                began_at=now,
                detected_at=now,
                opened_at=now,
            )
            self._incident_id = insert_incident(connection, incident, BENCH, "benchmark", now).incident_id

    def empty(self) -> None:
        """Empty log, raw and marts; plans, which the events refer to, are there."""
        self.empty_published()
        with psycopg.connect(driver_url(self._environment["WAREHOUSE_URL"]), autocommit=True) as connection:
            connection.execute("TRUNCATE landing.registrations, landing.hours, landing.offsets, landing.app_plans")
            connection.execute("CHECKPOINT")
        appender = LogAppender(self._environment["WAREHOUSE_URL"], self._catalog)
        names = [column.name for column in self._catalog.landed["app_plans"].columns]
        plan = {"plan_id": "premium", "name": "Premium", "amount": 9.99, "currency": "EUR", "active": True}
        image = {name: plan.get(name) for name in names} | {"updated_at": FIRST_HOUR.isoformat()}
        appender.append("app_plans", [(int(FIRST_HOUR.timestamp() * 1000), None, json.dumps(image).encode())])
        appender.close()

    def empty_published(self) -> None:
        """Empty raw and marts."""
        with psycopg.connect(driver_url(self._environment["WAREHOUSE_URL"]), autocommit=True) as connection:
            tables = [sql.Identifier("raw", name) for name in self._catalog.landed]
            tables += [sql.Identifier("marts", name) for name in self._catalog.marts]
            for table in tables:
                connection.execute(
                    sql.SQL("SELECT set_config('incident_pipelines.confirmed', {}, false)").format(
                        table.as_string().replace('"', "")
                    )
                )
                connection.execute(sql.SQL("TRUNCATE {}").format(table))
            connection.execute("TRUNCATE publication.windows, publication.inputs, publication.progress")

    def publish(self) -> float:
        """Publish all that is stale and return the seconds."""
        started = time.perf_counter()
        for outcome in refresh(self._warehouse, self._catalog, owner="bench"):
            if not isinstance(outcome, PublishedWindow):
                raise SystemExit(f"{outcome.dataset} {outcome.window}: {outcome.message}")
        return time.perf_counter() - started

    def replay(self, source: str, limits: Guardrails, windows: list[TimeWindow] | None = None) -> float:
        """Replay windows from one source into the log and return the seconds."""
        self._plans += 1
        now = datetime.now(UTC)
        with self._control.begin() as connection:
            store_plan(connection, self._incident_id, f"{self._plans:064x}", 1, {}, BENCH, now)
            plan = latest_plan(connection, self._incident_id)
        assert plan is not None
        choices = (Choice(source, True, None, None, False, True, None, "benchmark"),)
        replayer = Replayer(
            self._control, self._warehouse, self._catalog, self._environment, self._incident_id, plan.plan_id, limits
        )
        started = time.perf_counter()
        for span in replayer.replay([Replay(CONTRACT, window, None, choices) for window in windows or self.windows]):
            if span.unavailable or span.problems:
                raise SystemExit(f"{source}: {span.unavailable or span.problems[0]}")
        return time.perf_counter() - started


def _keep(environment: Mapping[str, str], values: list[bytes]) -> None:
    """Put the originals into the app's outbox."""
    with psycopg.connect(driver_url(environment["APP_DATABASE_URL"])) as connection:
        with connection.cursor().copy(
            "COPY outbox (event_id, topic, event_type, correlation_id, value, created_at) FROM STDIN (FORMAT binary)"
        ) as copy:
            copy.set_types(["uuid", "text", "text", "uuid", "bytea", "timestamptz"])
            for value in values:
                event = json.loads(value)
                copy.write_row(
                    (
                        UUID(event["event_id"]),
                        CONTRACT,
                        event["event_type"],
                        UUID(event["correlation_id"]),
                        value,
                        datetime.fromisoformat(event["created_at"]),
                    )
                )
        connection.execute("ANALYZE outbox")


if __name__ == "__main__":
    main()
