"""A shop whose producer keeps its originals: an outbox, minute totals, one mart; and events that never were landed."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, text

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.incident import Actor, Incident
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents.contain import contain_incident
from incident_pipelines.stages.incidents.pages import incident_page, listed_incidents
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication.refresh import refresh
from incident_pipelines.stages.recovery.left_to_others import prove_again
from incident_pipelines.stages.recovery.recover import (
    plan_incident,
    recover_incident,
    release_incident,
    scope_incident,
    verify_incident,
)
from incident_pipelines.stages.recovery.work import Work
from incident_pipelines_tests.builders import write_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
HOURS = 6
RUN = Actor("run", "test-run")
SENSOR = Actor("sensor", "open_incidents_sensor")

CATALOG = """\
name: shop
start: 2026-03-01T00:00:00Z
sources: {shop: APP_DATABASE_URL}
response: {mode: MODE}
"""
ORDERS = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
team: {name: shop team}
slaProperties:
- {property: retention, value: 7, unit: d}
customProperties:
- {property: dataset, value: events}
- {property: topic, value: TOPIC}
- {property: eventId, value: event_id}
- {property: eventType, value: event_type}
- {property: eventTime, value: occurred_at}
- {property: correlationId, value: order_id}
- {property: recoverySources, value: [landing_log, kafka, database_extract, audit_log]}
schema:
- name: orders
  logicalType: object
  properties:
  - {name: event_id, logicalType: string, physicalType: uuid, required: true, unique: true, primaryKey: true}
  - {name: event_type, logicalType: string, required: true, enum: [{value: ordered}, {value: paid}]}
  - {name: order_id, logicalType: string, required: true}
  - {name: currency, logicalType: string, required: true, enum: [{value: EUR}, {value: USD}]}
  - {name: amount, logicalType: number, physicalType: "numeric(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
  - {name: occurred_at, logicalType: timestamp, required: true}
"""
TURNOVER = """\
apiVersion: v3.1.0
kind: DataContract
id: turnover
name: turnover
version: 1.0.0
status: active
team: {name: finance}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [day, currency]}
- {property: day, value: day}
- {property: closes, value: monthly}
schema:
- name: turnover
  logicalType: object
  properties:
  - {name: day, logicalType: date, required: true}
  - {name: currency, logicalType: string, required: true, enum: [{value: EUR}, {value: USD}]}
  - {name: amount, logicalType: number, physicalType: "numeric(16,2)", required: true}
  - {name: orders, logicalType: integer, required: true}
"""
TURNOVER_SQL = """\
SELECT CAST(o.occurred_at AT TIME ZONE 'UTC' AS date) AS day, o.currency, sum(o.amount) AS amount, count(*) AS orders
FROM raw.orders o
WHERE o.event_type = 'ordered' AND o.occurred_at >= :window_start AND o.occurred_at < :window_end
GROUP BY 1, 2
"""
RECOVERY = """\
dataset: orders
database_extract: {source: shop, sql: orders.sql}
audit_log: {location: SHOP_AUDIT, file: "orders-{day}.jsonl"}
control_totals: {source: shop, sql: totals.sql}
"""
OUTBOX_SQL = """\
SELECT event_id, occurred_at AS event_time, order_id AS key, value FROM outbox
WHERE occurred_at >= :window_start AND occurred_at < :window_end ORDER BY occurred_at, event_id
"""
TOTALS_SQL = """\
SELECT date_trunc('minute', minute) AS minute, events FROM totals
WHERE minute >= :window_start AND minute < :window_end
"""
SENT_AND_TOLD = """\
name: sent_and_told
owner: shop team
source: {source: shop, sql: sent.sql}
target: {source: warehouse, sql: told.sql}
key: [event_id]
columns: []
time: occurred_at
"""
SENT_SQL = "SELECT event_id, occurred_at FROM outbox"
TOLD_SQL = """\
SELECT event_id::text AS event_id, occurred_at FROM raw.orders
UNION SELECT event_id, event_time FROM landing.dead_letters WHERE event_id IS NOT NULL
UNION SELECT key, window_start FROM landing.quarantine WHERE contract = 'orders'
"""
"""Published, a dead letter or quarantined: what is nowhere is missing."""
WITH_SENT_AND_TOLD = {
    "reconciliations/sent_and_told.yaml": SENT_AND_TOLD,
    "sql/reconciliation/sent.sql": SENT_SQL,
    "sql/reconciliation/told.sql": TOLD_SQL,
}


@dataclass
class Shop:
    """The shop, what it sent, and short words for what happens to it."""

    databases: Databases
    catalog: Catalog
    variables: dict[str, str]
    control: Engine
    warehouse: Engine
    sent: dict[str, dict[str, Any]]

    def work(self, incident_id: str, **changes: Any) -> Work:
        """What the steps of a recovery work with."""
        fields: dict[str, Any] = {"clock": lambda: NOW, **changes}
        return Work(
            self.control, self.warehouse, self.catalog, self.variables, incident_id, RUN, "recovery test", **fields
        )

    def land(self, names: list[str], kind: Any = "history") -> None:
        """Append some of what was sent to the log."""
        appender = LogAppender(self.variables["WAREHOUSE_URL"], self.catalog, clock=lambda: NOW)
        records = [(_milliseconds(self.sent[name]), None, encoded(self.sent[name])) for name in names]
        appender.append("orders", records, kind=kind)
        appender.close()

    def publish_all(self) -> None:
        """Publish what is stale."""
        for outcome in refresh(self.warehouse, self.catalog, owner="test"):
            assert not hasattr(outcome, "message"), outcome

    def lose(self, topic: str, offsets: int) -> str:
        """Record that offsets aged out; return the incident that is opened and contained for it."""
        query(
            self.databases.url("warehouse"),
            "WITH o AS (INSERT INTO landing.origins (contract, kind, topic, topic_id) "
            "VALUES ('orders', 'topic', %s, 'i') RETURNING origin_id) INSERT INTO landing.gaps "
            "(contract, topic, partition, origin_id, from_offset, to_offset, last_landed_at, detected_at) "
            "SELECT 'orders', %s, 0, origin_id, 0, %s, %s, %s FROM o",
            topic,
            topic,
            offsets,
            START,
            NOW,
        )
        return self.signal("offsets_aged_out", "orders", None, topic=topic, partition=0, records_at_most=offsets)

    def signal(self, kind: str, dataset: str, window: Any, **detail: Any) -> str:
        """Raise a signal; return its incident, contained."""
        query(
            self.databases.url("control"),
            "INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, occurred_at, "
            "raised_at) VALUES (%s, 'critical', %s, %s, %s, %s, %s, %s)",
            kind,
            dataset,
            window and window.start,
            window and window.end,
            json.dumps({"summary": f"{kind} was seen", **detail}),
            NOW,
            NOW,
        )
        taken = take_signals(self.control, self.catalog, NOW)
        (incident_id,) = taken.opened or taken.joined
        if kind == "landing_stalled":  # nobody runs a lander here that could be started again
            with self.control.begin() as connection:
                change_state(connection, incident_id, "detected", "contained", RUN, "started by hand", NOW)
            return incident_id
        contained = contain_incident(self.control, self.warehouse, self.catalog, self.variables, incident_id, RUN, NOW)
        assert contained.state == "contained", contained
        return incident_id

    def incident(self, incident_id: str) -> Incident:
        """The incident as it is now."""
        return next(one for one in listed_incidents(self.control) if one.incident_id == incident_id)

    def page(self, incident_id: str) -> Any:
        """Everything about it."""
        return incident_page(self.control, self.catalog, incident_id, NOW)

    def raw(self) -> dict[str, Any]:
        """Event id → amount of what is published."""
        return dict(query(self.databases.url("warehouse"), "SELECT event_id::text, amount FROM raw.orders"))

    def rows(self, statement: str) -> list[Any]:
        """Rows of the warehouse."""
        return query(self.databases.url("warehouse"), statement)

    def alter(self, window: TimeWindow) -> None:
        """Change some of what is published of a window, behind the back of publishing."""
        changed = query(
            self.databases.url("warehouse"),
            "UPDATE raw.orders SET amount = amount + 1 WHERE event_id IN (SELECT event_id FROM raw.orders "
            "WHERE occurred_at >= %s AND occurred_at < %s LIMIT 5) RETURNING 1",
            window.start,
            window.end,
        )
        assert changed

    def recover(self, incident_id: str, **changes: Any) -> str:
        """Lead an incident to its end, as the job does it; return its state."""
        work = self.work(incident_id, **changes)
        prove_again(self.control, self.catalog, self.incident(incident_id), SENSOR, work.clock())
        scope_incident(work)
        plan_incident(work)
        for _ in range(4):
            if recover_incident(work) == "verifying":
                verify_incident(work)
            if self.incident(incident_id).state not in ("planned", "recovering"):
                break
        release_incident(work)
        return self.incident(incident_id).state

    def close(self) -> None:
        """Close its connections."""
        self.control.dispose()
        self.warehouse.dispose()


def open_shop(
    databases: Databases,
    folder: Path,
    topic: str,
    rng: random.Random,
    *,
    events: int = 300,
    mode: str = "act",
    more: Mapping[str, str] = MappingProxyType({}),
) -> Shop:
    """Make the shop's databases; its producer has sent events of some hours, all in its outbox and totals.

    Args:
        more: further files of its catalog.
    """
    (folder / "audit").mkdir(parents=True)
    variables = write_catalog(
        folder,
        {
            "orders.yaml": ORDERS.replace("TOPIC", topic),
            "marts/turnover.yaml": TURNOVER,
            "recovery/orders.yaml": RECOVERY,
            "sql/marts/turnover.sql": TURNOVER_SQL,
            "sql/recovery/orders.sql": OUTBOX_SQL,
            "sql/recovery/totals.sql": TOTALS_SQL,
            **more,
        },
        CATALOG.replace("MODE", mode),
    )
    variables["SHOP_AUDIT"] = str(folder / "audit")
    prepare(without_start({**databases.environment("owner"), **variables}))
    environment = without_start({**databases.environment("publisher"), **variables})
    sent = {event["event_id"]: event for event in (_event(number, rng) for number in range(events))}
    shop = Shop(
        databases,
        load_catalog(environment),
        environment,
        postgres_engine(environment["CONTROL_DATABASE_URL"], "test"),
        postgres_engine(environment["WAREHOUSE_URL"], "test"),
        sent,
    )
    _keep_originals(databases.url("app", "app_service"), sent)
    return shop


def without_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The stack's start is not the shop's, and its supervisor runs no lander."""
    others = ("INCIDENT_PIPELINES_START", "INCIDENT_PIPELINES_SUPERVISOR")
    return {name: value for name, value in environment.items() if name not in others}


def encoded(event: Mapping[str, Any]) -> bytes:
    """An event as it was sent."""
    return json.dumps(event, separators=(",", ":")).encode()


def audited(folder: Path, events: list[dict[str, Any]]) -> None:
    """Write events into the audit log of their day."""
    lines = "".join(json.dumps({"value": event}) + "\n" for event in events)
    (folder / "audit" / f"orders-{START:%Y-%m-%d}.jsonl").write_text(lines, encoding="utf-8")


def _event(number: int, rng: random.Random) -> dict[str, Any]:
    at = START + timedelta(seconds=rng.uniform(0, HOURS * 3600))
    return {
        "event_id": str(uuid5(UUID(int=9), str(number))),
        "event_type": rng.choice(["ordered", "paid"]),
        "order_id": f"o-{number // 2}",
        "currency": rng.choice(["EUR", "USD"]),
        "amount": rng.randrange(100, 10_000) / 100,
        "occurred_at": at.isoformat(),
    }


def _keep_originals(url: str, sent: Mapping[str, dict[str, Any]]) -> None:
    engine = postgres_engine(url, "test")
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE outbox (event_id text, occurred_at timestamptz, order_id text, value text)")
        )
        connection.execute(text("CREATE TABLE totals (minute timestamptz PRIMARY KEY, events bigint)"))
        connection.execute(
            text("INSERT INTO outbox VALUES (:event_id, CAST(:occurred_at AS timestamptz), :order_id, :value)"),
            [{**event, "value": encoded(event).decode()} for event in sent.values()],
        )
        connection.execute(
            text("INSERT INTO totals SELECT date_trunc('minute', occurred_at), count(*) FROM outbox GROUP BY 1")
        )
        connection.execute(text("GRANT SELECT ON outbox, totals TO source_reader"))
    engine.dispose()


def _milliseconds(event: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(event["occurred_at"]).timestamp() * 1000)
