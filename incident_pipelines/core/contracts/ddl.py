"""Contract → the statements that make its tables; PostgreSQL dialect."""

from collections.abc import Iterable

from incident_pipelines.core.contracts.model import Contract, EventContract, Landed, MartContract, RowsContract
from incident_pipelines.core.identifiers import quoted

ENVELOPE = (
    ("origin_id", "integer NOT NULL"),
    ("partition", "integer NOT NULL"),
    ("position", "bigint NOT NULL"),
    ("kafka_timestamp", "timestamp with time zone"),
    ("landed_at", "timestamp with time zone NOT NULL"),
    ("event_time", "timestamp with time zone NOT NULL"),
    ("event_id", "text"),
    ("event_type", "text"),
    ("correlation_id", "text"),
    ("schema_version", "text"),
    ("reason", "text"),
    ("reason_path", "text"),
    ("key", "bytea"),
    ("headers", "bytea"),
    ("value", "bytea"),
)
"""Columns of the log, in the order in which rows are copied in."""

PROVENANCE = ("landing_origin_id", "landing_partition", "landing_position")
"""Columns of a raw table that say which row of the log a row was made from."""

PROVENANCE_TYPES = ("integer", "integer", "bigint")


def landing_ddl(contract: Landed) -> list[str]:
    """Return the statements for the log of a dataset: append only, keyed by (origin, partition, position).

    ``event_time`` of a dead letter is its own time where that could be read and is plausible, else when it was sent.
    """
    table = quoted("landing", contract.name)
    columns = ", ".join(f'"{name}" {sql_type}' for name, sql_type in ENVELOPE)
    statements = [
        f"CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY (origin_id, partition, position))",
        f"CREATE INDEX IF NOT EXISTS {quoted(_index(contract.name, 'time'))} ON {table} (event_time)",
        f"CREATE INDEX IF NOT EXISTS {quoted(_index(contract.name, 'dead'))} ON {table} (landed_at) "
        "WHERE reason IS NOT NULL",
    ]
    if isinstance(contract, RowsContract):
        statements.append(f"CREATE INDEX IF NOT EXISTS {quoted(_index(contract.name, 'key'))} ON {table} (event_id)")
    return statements


def dead_letters_ddl(contracts: Iterable[Landed]) -> str:
    """Return the statement for the view over the dead letters of all datasets."""
    selects = [
        f"SELECT '{contract.name}'::text AS contract, origin_id, partition, position, reason, reason_path, "
        "event_id, event_type, event_time, "
        "landed_at, kafka_timestamp, correlation_id, schema_version, key, headers, value, 'new'::text AS redrive_state "
        f"FROM {quoted('landing', contract.name)} WHERE reason IS NOT NULL"
        for contract in contracts
    ]
    return "CREATE OR REPLACE VIEW landing.dead_letters AS " + " UNION ALL ".join(selects)


def published_ddl(contract: Contract) -> list[str]:
    """Return the statements for the table of a raw dataset or a mart."""
    schema = "marts" if isinstance(contract, MartContract) else "raw"
    table = quoted(schema, contract.name)
    columns = [
        f"{quoted(column.name)} {column.sql_type}{' NOT NULL' if column.required else ''}"
        for column in contract.columns
    ]
    if schema == "raw":
        columns += [f"{name} {sql_type} NOT NULL" for name, sql_type in zip(PROVENANCE, PROVENANCE_TYPES, strict=True)]
    key = ", ".join(quoted(name) for name in contract.primary_key)
    statements = [f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, PRIMARY KEY ({key}))"]
    indexed = [contract.time_column, contract.correlation_id]
    if isinstance(contract, EventContract | RowsContract):
        indexed += [column.name for column in contract.columns if column.unique]
    for name in dict.fromkeys(name for name in indexed if name and (name,) != contract.primary_key):
        index = quoted(_index(f"{schema}_{contract.name}", name))
        statements.append(f"CREATE INDEX IF NOT EXISTS {index} ON {table} ({quoted(name)})")
    return statements


def _index(table: str, what: str) -> str:
    return f"{table}_{what}"[:63]
