"""A small shop: one topic, tables in two databases, one mart, all with a correlation id and a personal column."""

CATALOG = """\
name: shop
start: 2026-01-01T00:00:00Z
sources: {shop: APP_DATABASE_URL, ledger: BILLING_DATABASE_URL}
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
team: {{name: shop team}}
customProperties:
- {{property: correlationId, value: order_id}}
"""
ORDERS = (
    CONTRACT
    + """\
- {{property: dataset, value: events}}
- {{property: topic, value: {topic}}}
- {{property: eventId, value: event_id}}
- {{property: eventType, value: event_type}}
- {{property: eventTime, value: occurred_at}}
- {{property: maxQuarantineShare, value: 0.6}}
schema:
- name: orders
  logicalType: object
  properties:
  - {{name: event_id, logicalType: string, physicalType: uuid, required: true, unique: true, primaryKey: true}}
  - {{name: event_type, logicalType: string, required: true, enum: [{{value: ordered}}, {{value: paid}}]}}
  - {{name: order_id, logicalType: string, physicalType: uuid, required: true}}
  - {{name: customer, logicalType: string, required: true, classification: pii}}
  - {{name: amount, logicalType: number, physicalType: "numeric(12,2)", required: true}}
  - {{name: occurred_at, logicalType: timestamp, required: true}}
"""
)
ROWS = """\
- {{property: dataset, value: rows}}
- {{property: source, value: {source}}}
- {{property: table, value: public.{table}}}
- {{property: primaryKey, value: [row_id]}}
- {{property: createdAt, value: created_at}}
- {{property: updatedAt, value: updated_at}}
schema:
- name: {table}
  logicalType: object
  properties:
  - {{name: row_id, logicalType: integer, required: true, primaryKey: true}}
  - {{name: order_id, logicalType: string, physicalType: uuid, required: true}}
  - {{name: customer, logicalType: string, classification: pii}}
  - {{name: created_at, logicalType: timestamp, required: true}}
  - {{name: updated_at, logicalType: timestamp, required: true}}
"""
TOTALS = (
    CONTRACT.format(name="order_totals")
    + """\
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [order_id]}
- {property: day, value: day}
- {property: reachDays, value: 1}
- {property: anchorDataset, value: orders}
- {property: anchorEventType, value: ordered}
schema:
- name: order_totals
  logicalType: object
  properties:
  - {name: order_id, logicalType: string, physicalType: uuid, required: true, primaryKey: true}
  - {name: day, logicalType: date, required: true}
  - {name: customer, logicalType: string, required: true, classification: pii}
  - {name: total, logicalType: number, physicalType: "numeric(14,2)", required: true}
"""
)
TOTALS_SQL = """\
SELECT o.order_id, CAST(o.occurred_at AT TIME ZONE 'UTC' AS date) AS day, o.customer, o.amount AS total
FROM raw.orders o
WHERE o.event_type = 'ordered' AND o.occurred_at >= :window_start AND o.occurred_at < :window_end
"""
