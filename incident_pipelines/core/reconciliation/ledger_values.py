"""Values as the ledger keeps them: JSON that a person can query, and back again without loss."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from incident_pipelines.core.masking import masked, printable

Json = Any
"""None, boolean, integer, text, or a list or mapping of them."""


def to_json(value: object) -> Json:
    """Return a value as JSON has it; numbers with decimals and instants (UTC) become texts, bytes base64.

    A text that PostgreSQL's JSON cannot hold (U+0000, lone surrogates) is base64 too.
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return value if _storable(value) else base64.b64encode(_bytes(value)).decode("ascii")
        case Decimal() | float() | UUID():
            return str(value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return {str(key): to_json(inner) for key, inner in cast(Mapping[Any, Any], value).items()}
        case list() | tuple():
            return [to_json(inner) for inner in cast(list[Any], value)]
        case _:
            return str(value)


def type_name(value: object) -> str:
    """Return what `from_json` needs besides the JSON to give the value back."""
    match value:
        case str() if not _storable(value):
            return "text_base64"
        case None | bool() | int() | str():
            return "json"
        case Decimal():
            return "decimal"
        case float():
            return "float"
        case UUID():
            return "uuid"
        case datetime():
            return "datetime"
        case date():
            return "date"
        case time():
            return "time"
        case bytes():
            return "bytes"
        case _:
            return "json"


def from_json(value: Json, name: str) -> Any:
    """Return the value that `to_json` and `type_name` were given.

    Raises:
        ValueError: the type is not known.
    """
    if value is None:
        return None
    match name:
        case "json":
            return value
        case "text_base64":
            return base64.b64decode(value).decode("utf-8", "surrogatepass")
        case "decimal":
            return Decimal(value)
        case "float":
            return float(value)
        case "uuid":
            return UUID(value)
        case "datetime":
            return datetime.fromisoformat(value)
        case "date":
            return date.fromisoformat(value)
        case "time":
            return time.fromisoformat(value)
        case "bytes":
            return base64.b64decode(value)
        case _:
            raise ValueError(f"no type {name!r} of values in the ledger")


def canonical_json(value: object) -> str:
    """Return the one text of a value as JSON, the same in every run: what digests are made of."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def shown(value: Json, *, personal: bool = False) -> str:
    """Return a value of the ledger for a person: masked where it is personal; NULL is not the empty text."""
    if value is None:
        return "NULL"
    if personal:
        return str(masked(value if isinstance(value, str) else str(value)))
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
