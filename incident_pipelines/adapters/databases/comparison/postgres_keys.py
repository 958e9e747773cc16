"""Keys as texts of PostgreSQL's types, to look rows up by them."""

from incident_pipelines.adapters.databases.comparison.table import PairedColumn, key_text
from incident_pipelines.core.reconciliation.values import Value

_INT8 = range(-(2**63), 2**63)

NONE, MANY = object(), object()


def lookup(column: PairedColumn, value: Value) -> object:
    """Return a key's text in this side's type; `NONE` if no row can have it, `MANY` if rows may in many forms."""
    assert column.own is not None
    if value is None:
        return None
    family = column.own.family
    if column.column.ignore_case:
        return MANY
    match column.kind, family:
        case "number", "integer":
            return str(value) if isinstance(value, int) and value in _INT8 else NONE
        case "number", "decimal" | "float":
            return key_text(value) if not isinstance(value, str) or value in ("NaN", "Infinity", "-Infinity") else NONE
        case "boolean", "boolean":
            return key_text(value) if isinstance(value, bool) else NONE
        case "boolean", "integer":
            return str(int(value)) if isinstance(value, int) else NONE
        case "uuid", "uuid":
            return NONE if isinstance(value, str | bytes) else str(value)
        case "text", "text":
            return _storable(value) if isinstance(value, str) and column.own.type != "name" else MANY
        case "timestamp", "timestamp" | "timestamptz":
            return MANY if isinstance(value, str) else str(value)
        case "date", "date":
            return MANY if isinstance(value, str) else str(value)
        case _:
            return MANY


def _storable(text: str) -> object:
    """PostgreSQL stores neither U+0000 nor lone surrogates."""
    return NONE if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text) else text
