"""A small shop: products (one window), orders and visits (hours), daily_orders (days, with a reach of 2 days)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from sqlalchemy import create_engine, text

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.defs.landing.assets import landing_assets
from incident_pipelines.defs.marts.assets import mart_assets
from incident_pipelines.defs.raw.assets import raw_assets
from incident_pipelines.defs.refresh.job import refresh_job, refresh_schedule
from incident_pipelines.defs.resources import resources_for
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare
from incident_pipelines_tests.builders import EVENTS_YAML, order_bytes, write_catalog
from incident_pipelines_tests.conftest import Databases

CATALOG_YAML = """\
name: shop
start: 2026-03-01T00:00:00Z
sources: {shop: APP_DATABASE_URL}
"""

PRODUCTS_YAML = """\
apiVersion: v3.1.0
kind: DataContract
id: products
name: products
version: 1.2.0
status: active
description: {purpose: What can be ordered.}
team: {name: shop team}
slaProperties:
- {property: freshness, value: 10, unit: m}
customProperties:
- {property: dataset, value: rows}
- {property: source, value: shop}
- {property: table, value: public.products}
- {property: primaryKey, value: [product_id]}
- {property: updatedAt, value: updated_at}
- {property: consumers, value: [finance]}
schema:
- name: products
  logicalType: object
  properties:
  - {name: product_id, logicalType: string, required: true, unique: true, primaryKey: true}
  - {name: title, logicalType: string, required: true, classification: pii}
  - {name: updated_at, logicalType: timestamp, required: true}
"""

DAILY_ORDERS_YAML = """\
apiVersion: v3.1.0
kind: DataContract
id: daily_orders
name: daily_orders
version: 1.0.0
status: active
team: {name: finance}
slaProperties:
- {property: freshness, value: 15, unit: m}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [day]}
- {property: day, value: day}
- {property: reachDays, value: 2}
schema:
- name: daily_orders
  logicalType: object
  properties:
  - {name: day, logicalType: date, required: true}
  - {name: orders, logicalType: integer, required: true}
"""

DAILY_ORDERS_SQL = """\
SELECT CAST(occurred_at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS orders
FROM raw.orders
WHERE occurred_at >= :window_start AND occurred_at < :window_end
GROUP BY 1
"""

ORDERS = dg.AssetKey(["raw", "orders"])
VISITS = dg.AssetKey(["raw", "visits"])
PRODUCTS = dg.AssetKey(["raw", "products"])
DAILY_ORDERS = dg.AssetKey(["marts", "daily_orders"])


def shop_files(folder: Path) -> dict[str, str]:
    """Write the shop's catalog and return the variables that point at it."""
    variables = write_catalog(
        folder,
        {
            "orders.yaml": EVENTS_YAML.format(name="orders", topic="orders"),
            "visits.yaml": EVENTS_YAML.format(name="visits", topic="visits"),
            "products.yaml": PRODUCTS_YAML,
            "marts/daily_orders.yaml": DAILY_ORDERS_YAML,
        },
        CATALOG_YAML,
    )
    (folder / "sql" / "marts" / "daily_orders.sql").write_text(DAILY_ORDERS_SQL, encoding="utf-8")
    return variables


def shop_definitions(catalog: Catalog) -> dg.Definitions:
    """Return the definitions as the code location has them, for another catalog."""
    job = refresh_job(catalog)
    return dg.Definitions(
        assets=[*landing_assets(catalog), *raw_assets(catalog), *mart_assets(catalog)],
        resources=resources_for(catalog),
        jobs=[job],
        schedules=[refresh_schedule(job)],
        executor=dg.in_process_executor,
    )


@dataclass(frozen=True)
class Shop:
    """A prepared warehouse, a source database and the definitions over both."""

    catalog: Catalog
    variables: Mapping[str, str]

    @property
    def definitions(self) -> dg.Definitions:
        """The definitions."""
        return shop_definitions(self.catalog)

    def warehouse(self) -> psycopg.Connection[Any]:
        """Return a connection to the warehouse, in autocommit."""
        return psycopg.connect(driver_url(self.variables["WAREHOUSE_URL"]), autocommit=True)

    def land(self, messages: Iterable[bytes], dataset: str = "orders") -> None:
        """Append messages to the log of a dataset."""
        now = datetime(2026, 4, 1, tzinfo=UTC)
        sent = round(now.timestamp() * 1000)
        appender = LogAppender(self.variables["WAREHOUSE_URL"], self.catalog, lambda: now)
        appender.append(dataset, [(sent, None, value) for value in messages])
        appender.close()

    def land_hours(self, hours: int, each: int = 1, dataset: str = "orders") -> None:
        """Append good events to the hours from 2026-03-01 on."""
        messages = (
            order_bytes(occurred_at=f"2026-03-{1 + hour // 24:02}T{hour % 24:02}:{minute:02}:00Z", order_id=f"o-{hour}")
            for hour in range(hours)
            for minute in range(each)
        )
        self.land(messages, dataset)

    def stock(self, *products: str) -> None:
        """Put products into the source table."""
        engine = create_engine(self.variables["APP_DATABASE_URL"])
        with engine.begin() as connection:
            for product in products:
                connection.execute(
                    text("INSERT INTO products VALUES (:id, :id, '2026-03-01T00:00:00Z')"), {"id": product}
                )
        engine.dispose()


def open_shop(folder: Path, databases: Databases) -> Shop:
    """Return a shop whose warehouse is prepared and whose source table is empty."""
    variables = {**databases.environment("owner"), **shop_files(folder)}
    variables.pop("INCIDENT_PIPELINES_START", None)
    prepare(variables)
    engine = create_engine(variables["APP_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE products (product_id text PRIMARY KEY, title text, updated_at timestamptz)")
        )
    engine.dispose()
    return Shop(load_catalog(variables), variables)
