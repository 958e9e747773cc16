"""A till and a bank in two databases that have to agree, reconciled into a ledger.

As a program: ``python -m incident_pipelines_tests.stages.reconciliation_shop AS_OF [HOUR]`` reconciles with the catalog
and the addresses of its environment; a test kills it on the way.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines.stages.reconciliation.reconcile import Reconciled, reconcile
from incident_pipelines_tests.builders import write_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

CATALOG_YAML = "name: shop\nstart: 2026-03-01T00:00:00Z\nsources: {till: TILL_URL, bank: BANK_URL}\n"
TILL_BANK_YAML = """\
name: till_bank
description: What the till sold is booked at the bank.
owner: finance
source: {source: till, table: public.sales}
target: {source: bank, table: public.bookings}
key: [sale_id]
columns:
- {name: customer, pii: true}
- amount
- note
time: {source: sold_at, target: booked_at}
changed: {source: changed_at, target: changed_at}
grace: 10m
money: {source: amount, target: amount, currency: currency}
"""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = TimeWindow.hour_of(NOON)
LATER = NOON + timedelta(hours=3)
_TABLE = """
CREATE TABLE {table} (
    sale_id bigint, customer text, amount numeric(12, 2), note text, currency text DEFAULT 'EUR',
    {time} timestamptz, changed_at timestamptz);
CREATE INDEX ON {table} (sale_id);
CREATE INDEX ON {table} ({time});
CREATE INDEX ON {table} (changed_at);
GRANT SELECT ON {table} TO source_reader;
"""
_ROWS = """
INSERT INTO {table} (sale_id, customer, amount, note, {time}, changed_at)
SELECT n, 'customer ' || n, n, 'note', t, t
FROM (SELECT n, %s + n %% %s * interval '1 minute' AS t FROM generate_series(1, %s) n) r
"""


@dataclass(frozen=True)
class Shop:
    """Both databases, the control database and the catalog that declares them."""

    databases: Databases
    catalog: Catalog
    variables: Mapping[str, str]

    def till(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the till's database."""
        return query(self.databases.url("app"), statement, *values)

    def bank(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the bank's database."""
        return query(self.databases.url("billing"), statement, *values)

    def ledger(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the control database."""
        return query(self.databases.url("control"), statement, *values)

    def open(self) -> set[tuple[str, int]]:
        """Return kind and sale of each open difference."""
        rows = self.ledger(
            "SELECT kind, (key ->> 'sale_id')::bigint FROM reconciliation.differences WHERE resolved_at IS NULL"
        )
        assert len(rows) == len(set(rows))
        return {(kind, sale) for kind, sale in rows}

    def sell(self, sales: int, minutes: int = 180, start: datetime = NOON - timedelta(hours=1)) -> None:
        """Put the same sales into both tables, numbered from 1, spread over minutes from a start."""
        for address, table, time in (("app", "sales", "sold_at"), ("billing", "bookings", "booked_at")):
            with psycopg.connect(driver_url(self.databases.url(address))) as connection:
                connection.execute(_ROWS.format(table=table, time=time).encode(), (start, minutes, sales))

    def reconcile(self, hour: TimeWindow | None = None, as_of: datetime = LATER, **options: Any) -> Reconciled:
        """Reconcile as the role that does it in the stack."""
        control = postgres_engine(self.databases.url("control", "publisher"), "test")
        try:
            return reconcile(
                self.catalog,
                control,
                "till_bank",
                hour,
                as_of=as_of,
                **{"owner": "test", "environment": self.variables} | options,
            )
        finally:
            control.dispose()


def shop_files(folder: Path, declaration: str = TILL_BANK_YAML) -> dict[str, str]:
    """Write the catalog and return the variables that point at it."""
    return write_catalog(folder, {"reconciliations/till_bank.yaml": declaration}, CATALOG_YAML)


def open_shop(folder: Path, databases: Databases, declaration: str = TILL_BANK_YAML) -> Shop:
    """Return a shop with empty tables; sources are read by a role that may only read."""
    variables = {
        **shop_files(folder, declaration),
        "TILL_URL": databases.url("app", "source_reader"),
        "BANK_URL": databases.url("billing", "source_reader"),
        "CONTROL_DATABASE_URL": databases.url("control", "publisher"),
    }
    prepare_control(databases.url("control"))
    for address, table, time in (("app", "sales", "sold_at"), ("billing", "bookings", "booked_at")):
        with psycopg.connect(driver_url(databases.url(address)), autocommit=True) as connection:
            for statement in filter(str.strip, _TABLE.format(table=table, time=time).split(";")):
                connection.execute(statement.encode())
    return Shop(databases, load_catalog(variables), variables)


if __name__ == "__main__":
    at, *hours = sys.argv[1:]
    reconcile(
        load_catalog(),
        postgres_engine(os.environ["CONTROL_DATABASE_URL"], "killed"),
        "till_bank",
        TimeWindow.hour_of(datetime.fromisoformat(hours[0])) if hours else None,
        as_of=datetime.fromisoformat(at),
        owner="killed run",
    )
