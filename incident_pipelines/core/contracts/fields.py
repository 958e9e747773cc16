"""The contract's columns as a msgspec struct, and what msgspec's types cannot say."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from incident_pipelines.core.contracts.json_rules import Problem, has_unwritable_number
from incident_pipelines.core.contracts.model import Column, Landed

_MAX_INTEGER = 2**63 - 1
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_LENGTH = 36
_UUID_HYPHENS = [8, 13, 18, 23]
_MAX_ZONE = timedelta(hours=16)  # PostgreSQL refuses displacements from here on
_QUOTED = {"uuid", "text", "timestamp", "date"}
_LONG_MESSAGE = 1_000
_BACKSLASH = ord("\\")
_QUOTE = b'"'
_QUOTE_MARK = ord(_QUOTE)
_KNOWN_VALUES = 1_000


class Fields:
    """The contract's columns as a msgspec struct, and what msgspec's types cannot say.

    Args:
        partial: every field may be missing, as in the old row of a Debezium delete.
    """

    def __init__(self, contract: Landed, *, partial: bool = False) -> None:
        self.struct = msgspec.defstruct(
            contract.name, [_field(column, partial) for column in contract.columns], gc=False, kw_only=True
        )
        required = [column for column in contract.columns if column.required and not partial]
        optional = [column for column in contract.columns if not column.required or partial]
        self._required_quotes = sum(_quotes(column) for column in required)
        self._optional = [(attrgetter(column.name), _quotes(column)) for column in optional]
        self._uuids = [(c.name, attrgetter(c.name)) for c in contract.columns if c.type == "uuid"]
        self._numerics = [_Numeric(column) for column in contract.columns if column.type == "numeric"]
        # The time that decides the window is read from the log and never cast again.
        self._timestamps = [
            (column.name, attrgetter(column.name))
            for column in contract.columns
            if column.type == "timestamp" and column.name != contract.time_column
        ]

    def is_plain(self, message: bytes, row: Any) -> bool:
        """Return whether the message is known to hold each of its fields once and nothing else.

        Without escapes that shows in the number of quotation marks: two for each key and two more for each text.
        """
        marks = self._required_quotes
        for get, quoted in self._optional:
            value = get(row)
            if value is not msgspec.UNSET:
                marks += 2 if value is None else quoted
        return message.count(_QUOTE) == marks and _BACKSLASH not in message

    def problem(self, row: Any, message: bytes, path: str = "$", *, plain: bool = False) -> Problem | None:
        """Return what is wrong with a decoded row, or None.

        Args:
            plain: what `is_plain` says of it.
        """
        for name, get in self._uuids:
            value = get(row)
            if isinstance(value, str) and not _UUID.fullmatch(value):
                return "not_a_uuid", f"{path}.{name}"
        for numeric in self._numerics:
            value = numeric.get(row)
            if not isinstance(value, float):
                continue
            if numeric.is_unwritable(value, message, plain):
                return "number_out_of_range", f"{path}.{numeric.name}"
            if not numeric.fits(value):
                return "too_many_decimals", f"{path}.{numeric.name}"
        for name, get in self._timestamps:
            value = get(row)
            if value and abs(value.utcoffset()) >= _MAX_ZONE:
                return "malformed_value", f"{path}.{name}"
        return None

    def are_good(self, rows: Sequence[Any], messages: Sequence[bytes]) -> bool:
        """Return whether `is_plain` and the absence of a `problem` are known of all; looks at columns, not at rows.

        False says that at least one needs to be looked at by itself.
        """
        together = b"".join(messages)
        if _BACKSLASH in together:
            return False
        marks = self._required_quotes * len(rows)
        for get, quotes in self._optional:
            values = list(map(get, rows))
            absent, empty = values.count(msgspec.UNSET), values.count(None)
            marks += 2 * empty + quotes * (len(rows) - absent - empty)
        # Each message has at least the marks of its fields, so the same sum means the same number in each.
        if np.count_nonzero(np.frombuffer(together, np.uint8) == _QUOTE_MARK) != marks:
            return False
        for _, get in self._uuids:
            if not _are_uuids([value for value in map(get, rows) if value.__class__ is str]):
                return False
        if not all(numeric.are_good(rows, messages) for numeric in self._numerics):
            return False
        zones = {value.tzinfo for _, get in self._timestamps for value in map(get, rows) if value}
        return all(abs(zone.utcoffset(None)) < _MAX_ZONE for zone in zones)


class _Numeric:
    """What a float of msgspec does not tell of the number it was read from."""

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self.get = attrgetter(column.name)
        self._scale = column.scale
        self._zero = re.compile(rb'"%s":-?0(?:\.0{1,99})?[,}]' % column.name.encode())
        self._known: set[float] = set()

    def fits(self, value: float) -> bool:
        """Return whether the column's decimals are enough."""
        return round(value, self._scale) == value

    def is_unwritable(self, value: float, message: bytes, plain: bool) -> bool:
        """Return whether a database would refuse the number as it is written.

        A double hides that: 0e99999 is zero to it, and out of range to a database.
        """
        odd = value == 0.0 and not (plain and self._zero.search(message))
        return (odd or len(message) > _LONG_MESSAGE) and has_unwritable_number(message)

    def are_good(self, rows: Sequence[Any], messages: Sequence[bytes]) -> bool:
        """Return whether all values of plain messages are right."""
        values = list(map(self.get, rows))
        if 0.0 in values or max(map(len, messages)) > _LONG_MESSAGE:
            for value, message in zip(values, messages, strict=True):
                if isinstance(value, float) and self.is_unwritable(value, message, plain=True):
                    return False
        for value in set(values) - self._known:
            if isinstance(value, float):
                if not self.fits(value):
                    return False
                if len(self._known) < _KNOWN_VALUES:  # prices come again and again
                    self._known.add(value)
        return True


def _are_uuids(texts: list[str]) -> bool:
    """Return whether texts of 36 characters, as the struct asks for, are UUIDs: `_UUID` for many at once."""
    together = "".join(texts).encode()
    if len(together) != len(texts) * _UUID_LENGTH:
        return False
    codes = np.frombuffer(together, np.uint8).reshape(-1, _UUID_LENGTH)
    # What lies below the range wraps around and is beyond its end.
    digits = (codes - ord("0") < 10) | ((codes | 0x20) - ord("a") < 6)
    hyphens = (codes[:, _UUID_HYPHENS] == ord("-")).all()
    return bool(hyphens) and int(np.count_nonzero(digits)) == len(texts) * (_UUID_LENGTH - len(_UUID_HYPHENS))


def _quotes(column: Column) -> int:
    return 4 if column.type in _QUOTED else 2


def _field(column: Column, partial: bool) -> tuple[str, Any] | tuple[str, Any, Any]:
    field_type = _msgspec_type(column)
    if column.required and not partial:
        return column.name, field_type
    return column.name, field_type | None | msgspec.UnsetType, msgspec.UNSET


def _msgspec_type(column: Column) -> Any:
    if column.allowed:
        return Literal[column.allowed]
    minimum = float(column.minimum) if column.minimum is not None else None
    maximum = float(column.maximum) if column.maximum is not None else None
    match column.type:
        case "uuid":
            return Annotated[str, msgspec.Meta(min_length=36, max_length=36)]
        case "text":
            return Annotated[str, msgspec.Meta(max_length=column.max_length)] if column.max_length else str
        case "integer":
            low = -_MAX_INTEGER - 1 if minimum is None else max(int(minimum), -_MAX_INTEGER - 1)
            high = _MAX_INTEGER if maximum is None else min(int(maximum), _MAX_INTEGER)
            return Annotated[int, msgspec.Meta(ge=low, le=high)]
        case "numeric":
            bound = float(10 ** (column.precision - column.scale)) - 10.0**-column.scale
            low = -bound if minimum is None else max(minimum, -bound)
            high = bound if maximum is None else min(maximum, bound)
            return Annotated[float, msgspec.Meta(ge=low, le=high)]
        case "boolean":
            return bool
        case "timestamp":
            return Annotated[datetime, msgspec.Meta(tz=True)]
        case "date":
            return date
