"""Canonical texts of PostgreSQL's types."""

from psycopg import sql

from incident_pipelines.adapters.databases.comparison.sql_texts import (
    EXACT_INSTANTS,
    NO_INSTANT,
    after,
    flag_text,
    marked,
)
from incident_pipelines.adapters.databases.comparison.table import PairedColumn, cell_limit, cell_width, comparable
from incident_pipelines.core.reconciliation.comparison import SideName


def canonical_text(column: PairedColumn, before: str = "", *, side: SideName) -> str:
    """Return the SQL of a constant followed by a column's canonical text, NULL for NULL."""
    own = column.own
    assert own is not None
    name = quoted(column.name)
    width = cell_width(column)
    if width is not None and own.family in ("integer", "decimal", "float", "timestamp", "timestamptz"):
        number = f"date_part('epoch', {name})" if own.family.startswith("timestamp") else f"{name}::float8"
        if own.family == "decimal":  # beyond what a double holds the cast is an error
            number = f"(CASE WHEN abs({name}) < 1e300 THEN {name} END)::float8"
        cell = f"'c' || floor({number} / {width!r}::float8)::text"
        return after(before, f"CASE WHEN abs({number}) < {cell_limit(column)!r} THEN {cell} ELSE {name}::text END")
    match own.family:
        case "decimal":
            text = f"trim_scale({name})::text"
        case "boolean" if comparable(column):
            return flag_text(before, name)
        case "timestamptz" | "timestamp":
            text = _instant_text(name)
        case "date" if column.kind == "timestamp":
            text = _instant_text(f"{name}::timestamp")
        case "text" | "other" if column.kind == "timestamp":
            text = f"('{NO_INSTANT}' || {name}::text)"
        case "bytes":
            text = f"('x' || encode({name}, 'hex'))"
        case "text" if column.kind == "uuid":
            text = f'lower({name}::text COLLATE "C")'
        case "text" | "other" if column.column.ignore_case:
            text = f'lower({name}::text COLLATE "C")'
        case _:
            text = f"{name}::text"
    return after(before, marked(column, text, side))


def quoted(name: str) -> str:
    """Return a name quoted, for a statement with parameters."""
    return sql.Identifier(name).as_string(None).replace("%", "%%")


def _instant_text(instant: str) -> str:
    """Seconds since 1970, shorter than a date; only where a double tells microseconds apart."""
    first, last = EXACT_INSTANTS
    return (
        f"CASE WHEN {instant} > '{first}' AND {instant} < '{last}' THEN date_part('epoch', {instant})::text "
        f"ELSE '{NO_INSTANT}' || {instant}::text END"
    )
