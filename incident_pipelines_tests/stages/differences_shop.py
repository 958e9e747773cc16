"""The shop of `recovery_shop` with a table that is landed by extract, and with sides that have to agree with raw."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import create_engine, text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents.contain import contain_incident
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.reconciliation.reconcile import Reconciled, reconcile
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages import recovery_shop
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START

CUSTOMERS = """\
apiVersion: v3.1.0
kind: DataContract
id: customers
name: customers
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: rows}
- {property: source, value: shop}
- {property: table, value: public.customers}
- {property: primaryKey, value: [customer_id]}
- {property: createdAt, value: created_at}
- {property: updatedAt, value: updated_at}
- {property: recoverySources, value: [landing_log, database_extract]}
schema:
- name: customers
  logicalType: object
  properties:
  - {name: customer_id, logicalType: integer, required: true, primaryKey: true}
  - {name: tier, logicalType: string, required: true}
  - {name: created_at, logicalType: timestamp, required: true}
  - {name: updated_at, logicalType: timestamp, required: true}
"""
CUSTOMERS_RAW = """\
name: customers_raw
owner: shop team
source: {source: shop, table: public.customers}
target: {source: warehouse, table: raw.customers}
key: [customer_id]
columns: [tier]
time: created_at
changed: updated_at
"""
CUSTOMERS_ALL = """\
name: customers_all
owner: shop team
source: {source: shop, table: public.customers}
target: {source: warehouse, table: raw.customers}
key: [customer_id]
columns: [tier]
"""
"""The same with nothing that says when: there are no hours of it."""
CUSTOMERS_LETTERS = """\
name: customers_letters
owner: marketing
source: {source: shop, table: public.customers}
target: {source: shop, table: public.letters}
key: [customer_id]
columns: [tier]
time: created_at
"""
ADDRESSES_LETTERS = """\
name: addresses_letters
owner: marketing
source: {source: shop, table: public.addresses}
target: {source: shop, table: public.letters}
key: [customer_id]
columns: [tier]
time: created_at
"""
WITH_LETTERS = {
    "reconciliations/customers_letters.yaml": CUSTOMERS_LETTERS,
    "reconciliations/addresses_letters.yaml": ADDRESSES_LETTERS,
}
"""Tables that marketing keeps by itself: nobody lands them, and nobody makes them."""
ORDER_SUMS = """\
apiVersion: v3.1.0
kind: DataContract
id: order_sums
name: order_sums
version: 1.0.0
status: active
team: {name: analytics}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [order_id]}
- {property: day, value: day}
schema:
- name: order_sums
  logicalType: object
  properties:
  - {name: order_id, logicalType: string, required: true, primaryKey: true}
  - {name: day, logicalType: date, required: true}
  - {name: amount, logicalType: number, physicalType: "numeric(14,2)", required: true}
  - {name: first_at, logicalType: timestamp, required: true}
"""
ORDER_SUMS_SQL = """\
SELECT o.order_id, CAST(min(o.occurred_at) AT TIME ZONE 'UTC' AS date) AS day, sum(o.amount) AS amount,
       min(o.occurred_at) AS first_at
FROM raw.orders o
WHERE o.occurred_at >= :window_start AND o.occurred_at < :window_end
GROUP BY o.order_id
"""
ACCOUNTS_SUMS = """\
name: accounts_sums
owner: finance
source: {source: shop, table: public.accounts}
target: {source: warehouse, table: marts.order_sums}
key: [order_id]
columns: [amount]
time: first_at
changed: {source: last_at}
"""
RECEIPTS_ORDERS = """\
name: receipts_orders
owner: finance
source: {source: shop, table: public.receipts}
target: {source: warehouse, table: raw.orders}
key: [event_id]
columns: [order_id, amount]
time: occurred_at
"""
WITH_ACCOUNTS = {
    "marts/order_sums.yaml": ORDER_SUMS,
    "sql/marts/order_sums.sql": ORDER_SUMS_SQL,
    "reconciliations/accounts_sums.yaml": ACCOUNTS_SUMS,
    "reconciliations/receipts_orders.yaml": RECEIPTS_ORDERS,
}
"""A mart of one row for each order, and what the shop's books say of orders and events: no source that could replay."""


class Difference(NamedTuple):
    """An open difference.

    Args:
        explained: by what, and by which incident.
    """

    kind: str
    key: Any
    explained: tuple[str | None, str | None]


@dataclass
class Shop(recovery_shop.Shop):
    """The shop, what its customers are at their source, and short words for how sides come to differ."""

    def app(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement on the shop's own database."""
        return query(self.databases.url("app", "app_service"), statement, *values)

    def keep_letters(self) -> None:
        """Give marketing its copies of the customers."""
        for table in ("letters", "addresses"):
            self.app(f"CREATE TABLE {table} AS SELECT * FROM customers")
            self.app(f"GRANT SELECT ON {table} TO source_reader")

    def keep_accounts(self) -> None:
        """Write down in the shop's books what was sent."""
        self.app(
            "CREATE TABLE receipts AS SELECT event_id, order_id, CAST(value::json ->> 'amount' AS numeric(12, 2)) "
            "AS amount, occurred_at FROM outbox"
        )
        self.app(
            "CREATE TABLE accounts AS SELECT order_id, sum(amount) AS amount, min(occurred_at) AS first_at, "
            "max(occurred_at) AS last_at FROM receipts GROUP BY order_id"
        )
        self.app("GRANT SELECT ON receipts, accounts TO source_reader")

    def sent_at(self, name: str) -> datetime:
        """When an event happened."""
        return datetime.fromisoformat(self.sent[name]["occurred_at"])

    def by_hand(self, statement: str, table: str = "raw.customers") -> None:
        """Run a statement on a published table as somebody who was allowed to."""
        owner = postgres_engine(self.databases.url("warehouse"), "by hand")
        with owner.begin() as connection:
            confirmed = text("SELECT set_config('incident_pipelines.confirmed', :table, true)")
            connection.execute(confirmed, {"table": table})
            connection.execute(text(statement))
        owner.dispose()

    def extract(self) -> None:
        """Land what has changed of the customers, and publish it."""
        contract = self.catalog.landed["customers"]
        assert isinstance(contract, RowsContract)
        source = create_engine(self.variables["APP_DATABASE_URL"])
        extract_changes(source, self.warehouse, self.catalog, contract, now=NOW)
        source.dispose()
        self.publish_all()

    def customers(self, *, in_raw: bool) -> list[tuple[int, str]]:
        """Id and tier of each customer, in raw or at the source."""
        statement = f"SELECT customer_id, tier FROM {'raw' if in_raw else 'public'}.customers ORDER BY 1"
        return self.rows(statement) if in_raw else self.app(statement)

    def reconcile(self, name: str, hour: TimeWindow | None = None, now: datetime = NOW, **options: Any) -> Reconciled:
        """Compare two sides, as the schedule does it."""
        given = {"as_of": now, "owner": "schedule", "environment": self.variables, **options}
        return reconcile(self.catalog, self.control, name, hour, **given)

    def incident_of(self, name: str, hour: TimeWindow | None = None) -> str:
        """Compare two sides that differ; return the incident that is opened and contained for it."""
        assert self.reconcile(name, hour).signal_id is not None
        (incident_id,) = take_signals(self.control, self.catalog, NOW).opened
        contained = contain_incident(self.control, self.warehouse, self.catalog, self.variables, incident_id, RUN, NOW)
        assert contained.state == "contained", contained
        assert self.incident(incident_id).cause == "sides_disagree"
        return incident_id

    def open_differences(self, name: str) -> list[Difference]:
        """What is open between two sides."""
        statement = (
            "SELECT kind, key, explanation, incident_id FROM reconciliation.differences "
            "WHERE reconciliation = %s AND resolved_at IS NULL"
        )
        rows = query(self.databases.url("control"), statement, name)
        return [Difference(kind, next(iter(key.values())), (explanation, by)) for kind, key, explanation, by in rows]

    def comparisons(self, name: str) -> list[str]:
        """How two sides were compared, each time."""
        statement = "SELECT mode FROM reconciliation.runs WHERE reconciliation = %s ORDER BY run_id"
        return [mode for (mode,) in query(self.databases.url("control"), statement, name)]

    def course(self, incident_id: str) -> str:
        """What the timeline says, line by line."""
        entries = self.page(incident_id).entries
        return "\n".join(f"{entry.state_to or entry.kind}: {entry.text}" for entry in entries)


def open_shop(
    databases: Databases, folder: Path, topic: str, rng: random.Random, more: Mapping[str, str] = MappingProxyType({})
) -> Shop:
    """Make a shop with 120 customers of six hours, in raw as they are at their source.

    Args:
        more: further files of its catalog.
    """
    files = {"customers.yaml": CUSTOMERS, "reconciliations/customers_raw.yaml": CUSTOMERS_RAW, **more}
    shop = Shop(**vars(recovery_shop.open_shop(databases, folder, topic, rng, more=files)))
    shop.app(
        "CREATE TABLE customers "
        "(customer_id bigint PRIMARY KEY, tier text, created_at timestamptz, updated_at timestamptz)"
    )
    shop.app(
        "INSERT INTO customers SELECT n, 'basic', t, t "
        "FROM (SELECT n, %s + n * interval '3 minutes' AS t FROM generate_series(0, 119) n) c",
        START,
    )
    shop.app("GRANT SELECT ON customers TO source_reader")
    shop.extract()
    return shop
