"""Row of a source's table → the JSON that the log keeps of it: equal rows give equal bytes."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from incident_pipelines.core.contracts.decoder import REMOVED, row_key
from incident_pipelines.core.contracts.model import Column, Landed

Image = tuple[str, bytes]
"""(primary key as the log writes it, JSON)"""


def image_of(contract: Landed) -> Callable[[Sequence[Any]], Image]:
    """Return the function that writes a row, given its values in the order of the contract's columns.

    Columns keep the declared order; timestamps are UTC with microseconds (naive ones are taken for UTC); numerics have
    the declared scale. What does not fit its column is written as it is: the decoder says what is wrong with it.
    """
    names = [column.name for column in contract.columns]
    writers = [_writer(column) for column in contract.columns]
    key = [names.index(name) for name in contract.primary_key]
    encode = msgspec.json.Encoder().encode

    def write(row: Sequence[Any]) -> Image:
        values = [None if value is None else writer(value) for writer, value in zip(writers, row, strict=True)]
        return row_key([values[index] for index in key]), encode(dict(zip(names, values, strict=True)))

    return write


def tombstone_of(image: bytes, because: str) -> bytes:
    """Return an image that says its row is gone: the last one, marked.

    Args:
        image: JSON object with at least one field.
        because: on whose behalf it was removed.
    """
    return image.rstrip()[:-1].rstrip() + REMOVED + msgspec.json.encode(because) + b"}"


def image_before(tombstone: bytes) -> bytes:
    """Return the image that a tombstone was made from; any other image as it is."""
    place = tombstone.rfind(REMOVED)
    return tombstone if place < 0 else tombstone[:place] + b"}"


def _writer(column: Column) -> Callable[[Any], Any]:
    match column.type:
        case "numeric":
            return lambda value: _number(value, column.scale)
        case "timestamp":
            return _timestamp
        case "date":
            return lambda value: value.isoformat() if isinstance(value, date) else _plain(value)
        case "boolean":
            # Engines without the type give 0 and 1.
            return lambda value: bool(value) if value in (0, 1) else _plain(value)
        case "uuid" | "text":
            return str
        case "integer":
            return lambda value: int(value) if isinstance(value, Decimal) and value == int(value) else _plain(value)


def _number(value: Any, scale: int) -> Any:
    try:
        exact = Decimal(str(value))
        if exact == round(exact, scale):
            return msgspec.Raw(f"{exact:.{scale}f}".encode())
    except (ArithmeticError, ValueError):
        return str(value)
    return msgspec.Raw(f"{exact:f}".encode())


def _timestamp(value: Any) -> Any:
    if not isinstance(value, datetime):
        return _plain(value)
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
