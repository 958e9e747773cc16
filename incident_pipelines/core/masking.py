"""Hides personal data wherever a row or a message is shown."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, cast

from incident_pipelines.core.contracts.model import Contract

_CHANGE_PARTS = {"payload", "before", "after"}
"""Parts of a change envelope that hold rows."""


def masked(value: object) -> object:
    """Return the first two characters of a value and ``…``; of a short one nothing but ``…``. None stays None."""
    if value is None:
        return None
    text = value if isinstance(value, str) else ""
    return f"{printable(text[:2])}…" if len(text) > 4 else "…"


def masked_row(contract: Contract, row: Mapping[str, object]) -> dict[str, object]:
    """Return a row with its personal columns masked, in types that JSON has."""
    hidden = {column.name for column in contract.columns if column.pii}
    return {
        name: masked(None if value is None else str(value)) if name in hidden else _plain(value)
        for name, value in row.items()
    }


def masked_message(contract: Contract, value: bytes | None) -> object:
    """Return a message with personal columns masked at any depth, and whatever the contract does not name hidden.

    A message that is no JSON is described by its size alone: nobody knows what stands where in it.
    """
    if value is None:
        return None
    names = {column.name for column in contract.columns}
    hidden = {column.name for column in contract.columns if column.pii}
    try:
        return _shown(json.loads(value), names - hidden, hidden, False)
    except (ValueError, RecursionError):
        return f"{len(value)} bytes that cannot be read as JSON"


def masked_key(contract: Contract, key: str | None) -> str | None:
    """Return an event's id or a row's key as the log writes it, masked if a part of the key is personal."""
    personal = any(contract.column(name).pii for name in contract.primary_key)
    return cast(str | None, masked(key)) if personal else (None if key is None else printable(key))


def printable(text: str) -> str:
    """Return the text with everything that is no printable character (control codes, lone surrogates) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shown(value: Any, known: set[str], hidden: set[str], declared: bool) -> object:
    if isinstance(value, dict):
        return {
            printable(name): masked(inner)
            if name in hidden
            else _shown(inner, known, hidden, name in known or name in _CHANGE_PARTS)
            for name, inner in cast(dict[str, Any], value).items()
        }
    if isinstance(value, list):
        return [_shown(inner, known, hidden, declared) for inner in cast(list[Any], value)]
    return _plain(value) if declared else masked(value)


def _plain(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return printable(value)
        case datetime() | date():
            return value.isoformat()
        case _:
            return printable(str(value))
