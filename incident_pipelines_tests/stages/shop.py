"""A small platform whose windows the tests publish: plans and payments (tables), orders (events), two marts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, text

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import microseconds
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication.publish import PublishedWindow, publish_window
from incident_pipelines_tests.builders import write_catalog
from incident_pipelines_tests.conftest import Databases

NOW = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)

CATALOG = """\
name: shop
start: 2026-03-01T00:00:00Z
sources: {shop: APP_DATABASE_URL}
"""

PLANS = """\
apiVersion: v3.1.0
kind: DataContract
id: plans
name: plans
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: rows}
- {property: source, value: shop}
- {property: table, value: public.plans}
- {property: primaryKey, value: [plan_id]}
- {property: updatedAt, value: updated_at}
schema:
- name: plans
  logicalType: object
  properties:
  - {name: plan_id, logicalType: string, required: true, primaryKey: true}
  - {name: price, logicalType: number, physicalType: "numeric(12,2)", required: true}
  - {name: updated_at, logicalType: timestamp, required: true}
"""

ORDERS = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: events}
- {property: topic, value: orders}
- {property: eventId, value: event_id}
- {property: eventType, value: event_type}
- {property: eventTime, value: occurred_at}
- {property: correlationId, value: order_id}
- {property: maxQuarantineShare, value: 0.5}
schema:
- name: orders
  logicalType: object
  properties:
  - {name: event_id, logicalType: string, physicalType: uuid, required: true, unique: true, primaryKey: true}
  - {name: event_type, logicalType: string, required: true, enum: [{value: ordered}, {value: paid}, {value: shipped}]}
  - {name: order_id, logicalType: string, required: true}
  - {name: plan_id, logicalType: string, required: true, relationships: [{to: plans.plan_id}]}
  - {name: amount, logicalType: number, physicalType: "numeric(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
  - {name: pieces, logicalType: integer}
  - {name: note, logicalType: string}
  - {name: occurred_at, logicalType: timestamp, required: true}
"""

PAYMENTS = """\
apiVersion: v3.1.0
kind: DataContract
id: payments
name: payments
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: rows}
- {property: source, value: shop}
- {property: table, value: public.payments}
- {property: primaryKey, value: [payment_id]}
- {property: createdAt, value: created_at}
- {property: updatedAt, value: updated_at}
- {property: correlationId, value: order_id}
- {property: maxQuarantineShare, value: 0.5}
schema:
- name: payments
  logicalType: object
  properties:
  - {name: payment_id, logicalType: integer, required: true, primaryKey: true}
  - {name: order_id, logicalType: string, required: true}
  - {name: transaction_id, logicalType: string, unique: true}
  - {name: amount, logicalType: number, physicalType: "numeric(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
  - {name: settled, logicalType: boolean}
  - {name: due, logicalType: date}
  - {name: created_at, logicalType: timestamp, required: true}
  - {name: updated_at, logicalType: timestamp, required: true}
"""

STOCK = """\
apiVersion: v3.1.0
kind: DataContract
id: stock
name: stock
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: rows}
- {property: format, value: debezium}
- {property: topic, value: stock}
- {property: primaryKey, value: [item, shelf]}
- {property: createdAt, value: created_at}
schema:
- name: stock
  logicalType: object
  properties:
  - {name: item, logicalType: string, required: true, primaryKey: true}
  - {name: shelf, logicalType: integer, required: true, primaryKey: true}
  - {name: pieces, logicalType: integer, required: true}
  - {name: created_at, logicalType: timestamp, required: true}
"""

ORDER_STATES = """\
apiVersion: v3.1.0
kind: DataContract
id: order_states
name: order_states
version: 1.0.0
status: active
team: {name: analytics}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders, payments]}
- {property: primaryKey, value: [order_id]}
- {property: day, value: day}
- {property: reachDays, value: 3}
- {property: anchorDataset, value: orders}
- {property: anchorEventType, value: ordered}
- {property: maxQuarantineShare, value: 0}
schema:
- name: order_states
  logicalType: object
  properties:
  - {name: order_id, logicalType: string, required: true, primaryKey: true}
  - {name: day, logicalType: date, required: true}
  - {name: events, logicalType: integer, required: true}
  - {name: paid, logicalType: boolean, required: true}
"""

ORDER_STATES_SQL = """\
SELECT o.order_id, CAST(min(o.occurred_at) AT TIME ZONE 'UTC' AS date) AS day, count(e.event_id) AS events,
       bool_or(e.event_type = 'paid') OR EXISTS (SELECT 1 FROM raw.payments p WHERE p.order_id = o.order_id) AS paid
FROM raw.orders o JOIN raw.orders e ON e.order_id = o.order_id AND e.occurred_at < :reach_end
WHERE o.event_type = 'ordered' AND o.occurred_at >= :window_start AND o.occurred_at < :window_end
  AND NOT EXISTS (SELECT 1 FROM raw.orders b WHERE b.order_id = o.order_id AND b.event_type = 'ordered'
                  AND b.occurred_at < :window_start)
GROUP BY o.order_id;
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
- {property: primaryKey, value: [day, plan_id]}
- {property: day, value: day}
- {property: reachDays, value: 1}
schema:
- name: turnover
  logicalType: object
  properties:
  - {name: day, logicalType: date, required: true}
  - {name: plan_id, logicalType: string, required: true}
  - {name: amount, logicalType: number, physicalType: "numeric(14,2)", required: true}
"""

TURNOVER_SQL = """\
-- The share of 100 % that each plan has; a colon: here is no bind.
SELECT CAST(o.occurred_at AT TIME ZONE 'UTC' AS date) AS day, o.plan_id, sum(o.amount) AS amount
FROM raw.orders o
WHERE o.occurred_at >= :window_start AND o.occurred_at < :window_end AND o.event_type = 'ordered'
  AND o.plan_id NOT LIKE '%free%'
GROUP BY 1, 2
"""


@dataclass
class Shop:
    """A prepared warehouse, its catalog, and short words for what tests do with them."""

    catalog: Catalog
    variables: Mapping[str, str]
    warehouse: Engine
    source: Engine
    appender: LogAppender
    owner: Engine

    def append(self, contract: str, *records: Mapping[str, Any] | bytes, kind: str = "history") -> None:
        """Append messages to the log."""
        sent = int(NOW.timestamp() * 1000)
        values = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        self.appender.append(contract, [(sent, None, value) for value in values], kind=kind)  # pyright: ignore[reportArgumentType]

    def publish(self, dataset: str, at: str | datetime, **options: Any) -> PublishedWindow:
        """Publish the window that holds an instant, ``20T10`` for the 20th, 10 o'clock."""
        contract = self.catalog.landed.get(dataset) or self.catalog.marts[dataset].contract
        window = self.catalog.window_of(contract, instant(at) if isinstance(at, str) else at)
        return publish_window(self.warehouse, self.catalog, dataset, window, owner="tester", **options)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.warehouse.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def execute(self, sql: str, confirmed: str = "", **values: Any) -> None:
        """Run a statement as the tables' owner and commit.

        Args:
            confirmed: table of which it may touch more than the protected share.
        """
        with self.owner.begin() as connection:
            connection.execute(
                text("SELECT set_config('incident_pipelines.confirmed', :table, true)"), {"table": confirmed}
            )
            connection.execute(text(sql), values)

    def plans(self, *names: str) -> None:
        """Put plans into the log and publish them."""
        self.append("plans", *({"plan_id": n, "price": 1.5, "updated_at": "2026-03-01T00:00:00Z"} for n in names))
        self.publish("plans", self.catalog.start)


def open_shop(databases: Databases, folder: Path) -> Shop:
    """Make the shop's warehouse."""
    catalog_variables = write_catalog(
        folder,
        {
            "plans.yaml": PLANS,
            "orders.yaml": ORDERS,
            "payments.yaml": PAYMENTS,
            "stock.yaml": STOCK,
            "marts/order_states.yaml": ORDER_STATES,
            "marts/turnover.yaml": TURNOVER,
            "sql/marts/order_states.sql": ORDER_STATES_SQL,
            "sql/marts/turnover.sql": TURNOVER_SQL,
        },
        CATALOG,
    )
    environment = {**databases.environment("owner"), **catalog_variables}
    environment.pop("INCIDENT_PIPELINES_START", None)
    prepare(environment)
    variables = {**databases.environment("publisher"), **catalog_variables}
    variables.pop("INCIDENT_PIPELINES_START", None)
    catalog = load_catalog(variables)
    return Shop(
        catalog=catalog,
        variables=variables,
        warehouse=postgres_engine(variables["WAREHOUSE_URL"], "tests"),
        source=postgres_engine(databases.url("app", "app_service"), "tests"),
        appender=LogAppender(variables["WAREHOUSE_URL"], catalog, clock=lambda: NOW),
        owner=postgres_engine(environment["WAREHOUSE_URL"], "tests"),
    )


def close_shop(shop: Shop) -> None:
    """Close its connections."""
    shop.warehouse.dispose()
    shop.source.dispose()
    shop.owner.dispose()
    shop.appender.close()


def instant(at: str) -> datetime:
    """Return an instant in March 2026: ``20T10:15`` is the 20th, 10:15 UTC."""
    day, _, clock = at.partition("T")
    hour, _, minute = (clock or "0").partition(":")
    return datetime(2026, 3, int(day), int(hour), int(minute or 0), tzinfo=UTC)


def order(name: str, at: str, **changes: Any) -> dict[str, Any]:
    """Return an event of `orders`; equal names are the same event."""
    return {
        "event_id": str(uuid5(UUID(int=7), name)),
        "event_type": "ordered",
        "order_id": name,
        "plan_id": "basic",
        "amount": 9.99,
        "pieces": 1,
        "note": None,
        "occurred_at": instant(at).isoformat(),
        **changes,
    }


def payment(number: int, created: str, updated: str, **changes: Any) -> dict[str, Any]:
    """Return an image of a row of `payments`."""
    return {
        "payment_id": number,
        "order_id": f"o{number}",
        "transaction_id": f"t{number}",
        "amount": 5.25,
        "settled": True,
        "due": "2026-04-01",
        "created_at": instant(created).isoformat(),
        "updated_at": instant(updated).isoformat(),
        **changes,
    }


def hours(*starts: str) -> list[TimeWindow]:
    """Return the hours that begin at the given instants."""
    return [TimeWindow.hour_of(instant(start)) for start in starts]


def sent_at(at: datetime) -> int:
    """Microseconds since 2000-01-01 UTC."""
    return microseconds(at)


def ids(rows: Iterable[tuple[Any, ...]]) -> set[Any]:
    """Return the first column."""
    return {row[0] for row in rows}
