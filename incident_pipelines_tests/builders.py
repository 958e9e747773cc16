"""What tests are made of: small catalogs, events, contracts."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog

START = datetime(2026, 1, 1, tzinfo=UTC)

CATALOG_YAML = """\
name: shop
start: 2026-01-01T00:00:00Z
"""

EVENTS_YAML = """\
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
team: {{name: shop team}}
customProperties:
- {{property: dataset, value: events}}
- {{property: topic, value: {topic}}}
- {{property: eventId, value: event_id}}
- {{property: eventType, value: event_type}}
- {{property: eventTime, value: occurred_at}}
- {{property: correlationId, value: order_id}}
- {{property: schemaVersion, value: version}}
schema:
- name: {name}
  logicalType: object
  properties:
  - {{name: event_id, logicalType: string, physicalType: uuid, required: true, unique: true, primaryKey: true}}
  - {{name: event_type, logicalType: string, required: true, enum: [{{value: ordered}}, {{value: paid}}]}}
  - {{name: version, logicalType: string, required: true}}
  - {{name: order_id, logicalType: string, required: true, logicalTypeOptions: {{maxLength: 60}}}}
  - name: amount
    logicalType: number
    physicalType: "numeric(12,2)"
    required: true
    logicalTypeOptions: {{minimum: 0}}
  - {{name: note, logicalType: string}}
  - {{name: occurred_at, logicalType: timestamp, required: true}}
"""


def write_catalog(folder: Path, contracts: dict[str, str], catalog: str = CATALOG_YAML) -> dict[str, str]:
    """Write a catalog and return the variables that point at it.

    Args:
        contracts: YAML by file name under contracts/ or, with a slash, under the catalog's folder.
    """
    files = {
        "catalog.yaml": catalog,
        **{name if "/" in name else f"contracts/{name}": y for name, y in contracts.items()},
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "sql" / "marts").mkdir(parents=True, exist_ok=True)
    return {"INCIDENT_PIPELINES_CATALOG": str(folder), "INCIDENT_PIPELINES_SQL": str(folder / "sql")}


def orders_catalog(
    folder: Path, topic: str = "orders", quarantine_share: float = 0.01
) -> tuple[Catalog, dict[str, str]]:
    """Return a catalog with one event stream, `orders`, and the variables that point at it."""
    contract = EVENTS_YAML.format(name="orders", topic=topic).replace(
        "customProperties:\n", f"customProperties:\n- {{property: maxQuarantineShare, value: {quarantine_share}}}\n"
    )
    variables = write_catalog(folder, {"orders.yaml": contract})
    return load_catalog(variables), variables


def order_event(**changes: Any) -> dict[str, Any]:
    """Return a good event of `orders`, with changes."""
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": "ordered",
        "version": "1.0.0",
        "order_id": "o-1",
        "amount": 9.99,
        "occurred_at": "2026-03-01T10:15:00Z",
        **changes,
    }


def order_bytes(**changes: Any) -> bytes:
    """Return a good event of `orders` as JSON bytes, with changes."""
    return json.dumps(order_event(**changes), separators=(",", ":")).encode()


CHANGES_YAML = """\
apiVersion: v3.1.0
kind: DataContract
id: customers
name: customers
version: 1.0.0
status: active
team: {name: shop team}
customProperties:
- {property: dataset, value: rows}
- {property: topic, value: shop.public.customers}
- {property: format, value: debezium}
- {property: primaryKey, value: [customer_id]}
- {property: createdAt, value: created_at}
schema:
- name: customers
  logicalType: object
  properties:
  - {name: customer_id, logicalType: integer, required: true, primaryKey: true}
  - {name: name, logicalType: string}
  - {name: created_at, logicalType: timestamp, required: true}
"""
"""Rows of a table that arrive as Debezium changes."""

EVERY_TYPE_YAML = """\
apiVersion: v3.1.0
kind: DataContract
id: readings
name: readings
version: 1.0.0
status: active
team: {name: lab}
customProperties:
- {property: dataset, value: events}
- {property: topic, value: readings}
- {property: eventId, value: id}
- {property: eventType, value: kind}
- {property: eventTime, value: at}
- {property: maxQuarantineShare, value: 1.0}
schema:
- name: readings
  logicalType: object
  properties:
  - {name: id, logicalType: string, physicalType: uuid, required: true, primaryKey: true}
  - {name: kind, logicalType: string, required: true}
  - {name: at, logicalType: timestamp, required: true}
  - {name: count, logicalType: integer}
  - {name: ratio, logicalType: number, physicalType: "numeric(9,4)"}
  - {name: other, logicalType: string, physicalType: uuid}
  - {name: ok, logicalType: boolean}
  - {name: seen_at, logicalType: timestamp}
  - {name: day, logicalType: date}
"""
"""An event stream with a column of each type."""
