"""One form for each value, whatever engine it comes from: equal values are equal here and nowhere else is it decided.

A kind follows from a column's types on both sides. Numbers are equal by value; a binary float stands for its shortest
decimal text, so that 0.1 equals 0.1 whatever holds it. Times without a zone are UTC. NULL is None and equals only NULL.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any, Literal, cast
from uuid import UUID

Value = None | bool | int | Decimal | str | bytes | datetime | date | UUID
"""A canonical value. A number that is none is the text ``NaN``, ``Infinity`` or ``-Infinity``."""

Family = Literal[
    "integer",
    "decimal",
    "float",
    "boolean",
    "timestamp",
    "timestamptz",
    "date",
    "uuid",
    "text",
    "bytes",
    "json",
    "other",
]
"""What an engine's type is; ``other`` (intervals, arrays, enumerations …) is compared by its text."""

ValueKind = Literal["number", "boolean", "timestamp", "date", "uuid", "text", "bytes", "json"]

_NUMBERS: frozenset[Family] = frozenset({"integer", "decimal", "float"})
_INSTANTS: frozenset[Family] = frozenset({"timestamp", "timestamptz", "date"})
_TEXTS: frozenset[Family] = frozenset({"text", "other"})
# Exact for all numbers that a database holds; decimal's own context would round to 28 digits.
_EXACT = Context(prec=200_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
_LARGEST_EXPONENT = 150_000
_NUMBER_TEXT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)
_NOT_NUMBERS = {
    "nan": "NaN",
    "inf": "Infinity",
    "infinity": "Infinity",
    "+infinity": "Infinity",
    "-inf": "-Infinity",
    "-infinity": "-Infinity",
}
_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_INSTANT_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6}0*)?)?) ?(Z|[+-]\d\d(?::?\d\d(?::\d\d)?)?)?)?", re.ASCII
)
_TRUE, _FALSE = frozenset({"true", "t", "1"}), frozenset({"false", "f", "0"})


def common_kind(source: Family, target: Family) -> ValueKind:
    """Return how values of two types are compared; a text beside another type is read as that type."""
    one, other = (target, source) if source in _TEXTS else (source, target)
    if other in _TEXTS:
        return _kind_of(one)
    if one == other:
        return _kind_of(one)
    pair = {one, other}
    if pair == {"boolean", "integer"}:
        return "boolean"
    if pair <= _NUMBERS | {"boolean"}:
        return "number"
    if pair <= _INSTANTS:
        return "timestamp"
    if pair == {"uuid", "bytes"}:
        return "uuid"
    return "text"


def canonicaliser(kind: ValueKind, *, ignore_case: bool = False) -> Callable[[Any], Value]:
    """Return the function that brings a value, as a driver gives it, into its one form."""
    if ignore_case and kind == "text":
        return _folded
    return _CANONICALISERS[kind]


def within(source: Value, target: Value, tolerance: Decimal | None) -> bool:
    """Return whether two canonical values are equal.

    Args:
        tolerance: largest absolute difference; for instants in seconds.
    """
    if source == target or tolerance is None:
        return source == target
    if isinstance(source, int | Decimal) and isinstance(target, int | Decimal):
        apart = _EXACT.subtract(Decimal(source), Decimal(target))
        return _EXACT.abs(apart) <= tolerance
    if isinstance(source, datetime) and isinstance(target, datetime):
        microseconds = abs(source - target) // timedelta(microseconds=1)
        return microseconds <= _EXACT.multiply(tolerance, Decimal(1_000_000))
    return False


def order_of(value: Value) -> tuple[int, Any]:
    """Return what values of any kind are sorted by: NULL first, then kind by kind."""
    match value:
        case None:
            return 0, 0
        case int() | Decimal():
            return 1, value
        case str():
            return 2, value
        case bytes():
            return 3, value
        case datetime():
            return 4, value
        case date():
            return 5, value
        case UUID():
            return 6, value


def _kind_of(family: Family) -> ValueKind:
    match family:
        case "integer" | "decimal" | "float":
            return "number"
        case "timestamp" | "timestamptz":
            return "timestamp"
        case "text" | "other":
            return "text"
        case _:
            return family


def _number(value: Any) -> Value:
    if value is None or type(value) is int:
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return _NOT_NUMBERS[repr(value)]
        return _plain(Decimal(repr(value)))
    if isinstance(value, Decimal):
        return _plain(value) if value.is_finite() else "NaN" if value.is_nan() else _NOT_NUMBERS[str(value).lower()]
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOT_NUMBERS:
            return _NOT_NUMBERS[text.lower()]
        if _NUMBER_TEXT.fullmatch(text):
            return _plain(_EXACT.create_decimal(text))
        return value
    return _text(value)


def _plain(number: Decimal) -> int | Decimal:
    """Take zeros behind the point away; a whole number becomes an int."""
    try:
        number = _EXACT.normalize(number)
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)
        return int(number) if 0 <= exponent <= _LARGEST_EXPONENT else number
    except InvalidOperation:
        return number


def _boolean(value: Any) -> Value:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return bool(value) if value in (0, 1) else _number(value)
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    return _text(value)


def _timestamp(value: Any) -> Value:
    if isinstance(value, datetime):
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            return value.isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        return _instant(value) or value
    return _text(value)


def _instant(text: str) -> datetime | None:
    found = _INSTANT_TEXT.fullmatch(text.strip())
    if found is None:
        return None
    day, clock, zone = found.groups()
    if clock and len(clock) > 15:
        clock = clock[:15]
    try:
        instant = datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone or '+00:00'}")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _date(value: Any) -> Value:
    if isinstance(value, datetime):
        midnight = value.timetz().replace(tzinfo=None) == time()
        return value.date() if midnight else _timestamp(value)
    if value is None or isinstance(value, date):
        return value
    if isinstance(value, str):
        instant = _instant(value)
        return value if instant is None else instant.date() if instant.timetz() == time(tzinfo=UTC) else instant
    return _text(value)


def _uuid(value: Any) -> Value:
    if value is None or isinstance(value, UUID):
        return value
    if isinstance(value, str):
        return UUID(value.strip()) if _UUID_TEXT.fullmatch(value.strip()) else value
    binary = _bytes(value)
    return UUID(bytes=binary) if isinstance(binary, bytes) and len(binary) == 16 else binary


def _text(value: Any) -> Value:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            number = _number(value)
            return (
                number
                if isinstance(number, str)
                else format(number, "f")
                if isinstance(number, Decimal)
                else str(number)
            )
        case bytes() | bytearray() | memoryview():
            return bytes(cast(bytes, value))
        case datetime() | date() | time():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
        case _:
            return str(value)


def _folded(value: Any) -> Value:
    text = _text(value)
    return text.casefold() if isinstance(text, str) else text


def _bytes(value: Any) -> Value:
    return _text(value)


def _json(value: Any) -> Value:
    if value is None:
        return None
    try:
        document = json.loads(value, parse_float=Decimal) if isinstance(value, str | bytes | bytearray) else value
        return _written(document)
    except (ValueError, RecursionError):
        return _text(value)


def _written(value: Any) -> str:
    """Return the one text of a JSON document: members sorted, numbers that are equal written alike."""
    match value:
        case dict():
            members = sorted(cast(dict[str, Any], value).items(), key=lambda member: member[0])
            return "{" + ",".join(f"{_written(name)}:{_written(inner)}" for name, inner in members) + "}"
        case list():
            return "[" + ",".join(_written(inner) for inner in cast(list[Any], value)) + "]"
        case float() | Decimal():
            return str(_number(value))
        case _:
            return json.dumps(value, ensure_ascii=False)


_CANONICALISERS: dict[ValueKind, Callable[[Any], Value]] = {
    "number": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "uuid": _uuid,
    "text": _text,
    "bytes": _bytes,
    "json": _json,
}
