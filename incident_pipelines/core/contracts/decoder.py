"""Contract → decoder: bytes of a message → its envelope, or the reason why it is a dead letter.

Whatever passes here, PostgreSQL can cast: one bad message must not fail the hour it belongs to.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from incident_pipelines.core.contracts.fields import Fields
from incident_pipelines.core.contracts.json_rules import Problem, find_problem
from incident_pipelines.core.contracts.model import ChangeTopic, EventContract, Landed, RowsContract

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
REMOVED = b',"$removed":'
"""Stands before the last field of an image that says its row is gone; no column can be called so (see `images`)."""

MAX_FUTURE_MICROSECONDS = 5 * 60 * 1_000_000
"""A producer's clock may be this far ahead (SPEC §2)."""


class Envelope(NamedTuple):
    """What the log keeps of a message beside its bytes.

    Args:
        event_time: microseconds since 2000-01-01 UTC (PostgreSQL's own count); of a dead letter its own time where
            that can be read and is plausible, else when it was sent.
        event_type: of a row: ``c``, ``u``, ``r`` or ``d``, or ``tombstone``.
        reason: code of the first rule that failed; None for a good message.
        reason_path: where in the message.
    """

    event_time: int
    event_id: str | None
    event_type: str | None
    correlation_id: str | None
    schema_version: str | None
    reason: str | None = None
    reason_path: str | None = None


class Envelopes(NamedTuple):
    """Envelopes of many messages, by column."""

    event_times: Sequence[int] | NDArray[np.int64]
    event_ids: Sequence[str | None]
    event_types: Sequence[str | None]
    correlation_ids: Sequence[str | None]
    schema_versions: Sequence[str | None]
    reasons: Sequence[str | None]
    reason_paths: Sequence[str | None]

    @classmethod
    def of(cls, envelopes: Iterable[Envelope]) -> "Envelopes":
        """Turn rows, at least one, into columns."""
        return cls(*map(list, zip(*envelopes, strict=True)))

    def taken(self, places: Sequence[int]) -> "Envelopes":
        """Return those at some places, at least one, in that order."""
        if len(places) == len(self.event_times):
            return self

        def there(column: Sequence[str | None]) -> list[str | None]:
            return [column[place] for place in places]

        return Envelopes(
            np.asarray(self.event_times, np.int64)[places],
            there(self.event_ids),
            there(self.event_types),
            there(self.correlation_ids),
            there(self.schema_versions),
            there(self.reasons),
            there(self.reason_paths),
        )


EPOCH_MILLISECONDS = int(POSTGRES_EPOCH.timestamp() * 1000)
"""2000-01-01 UTC as Kafka counts: milliseconds since 1970-01-01 UTC."""

Decode = Callable[[bytes | None, int, int], Envelope]
"""(value, now, sent) → envelope; both times in microseconds since 2000-01-01 UTC."""


def microseconds(instant: datetime) -> int:
    """Return microseconds since 2000-01-01 UTC of an aware instant."""
    since = instant - POSTGRES_EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def decoder_for(contract: Landed, start: datetime) -> Decode:
    """Return the decoder of a dataset.

    Args:
        contract: an event stream, or rows read from a table or arriving as Debezium changes.
        start: first instant the catalog knows; what claims to be older is a dead letter.
    """
    match contract:
        case EventContract():
            return _event_decoder(contract, start)
        case RowsContract(origin=ChangeTopic()):
            return _ChangeDecoder(contract, start).decode
        case RowsContract():
            return _RowDecoder(contract, start).decode


def implausible(event_time: int, now: int, earliest: int) -> str | None:
    """Return the reason why a time decides nothing, or None."""
    if event_time > now + MAX_FUTURE_MICROSECONDS:
        return "time_in_future"
    return "time_before_start" if event_time < earliest else None


def _event_decoder(contract: EventContract, start: datetime) -> Decode:
    """Return the decoder of an event stream."""
    fields = Fields(contract)
    decode_struct: Callable[[bytes], Any] = msgspec.json.Decoder(fields.struct).decode
    names = [contract.event_id, contract.event_type, contract.correlation_id, contract.schema_version]
    # A part of the envelope that the contract leaves out is read as the id and thrown away: one call gets all.
    envelope = attrgetter(contract.event_time, *(name or contract.event_id for name in names))
    has_correlation, has_version = contract.correlation_id is not None, contract.schema_version is not None
    current_version = contract.version
    earliest = microseconds(start)

    def dead(value: bytes, now: int, sent: int, problem: Problem) -> Envelope:
        return _dead_letter(value, now, sent, problem, names, contract.event_time, earliest)

    def decode(value: bytes | None, now: int, sent: int) -> Envelope:
        if value is None:
            return Envelope(sent, None, None, None, None, "empty_value", "$")
        try:
            event = decode_struct(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return dead(value, now, sent, find_problem(value) or explain(error))
        plain = fields.is_plain(value, event)
        if not plain and (problem := find_problem(value)):
            return dead(value, now, sent, problem)
        if problem := fields.problem(event, value, plain=plain):
            return dead(value, now, sent, problem)
        created_at, event_id, event_type, correlation_id, version = envelope(event)
        if not has_version:
            version = None
        elif version != current_version:
            return dead(value, now, sent, ("unknown_version", f"$.{contract.schema_version}"))
        if not has_correlation:
            correlation_id = None
        event_time = microseconds(created_at)
        if reason := implausible(event_time, now, earliest):
            return dead(value, now, sent, (reason, f"$.{contract.event_time}"))
        return Envelope(event_time, str(event_id), _text(event_type), _text(correlation_id), version)

    return decode


class _RowDecoder:
    """Images of rows, as an extract writes them."""

    def __init__(self, contract: RowsContract, start: datetime) -> None:
        self._contract = contract
        self._start = microseconds(start)
        self._fields = Fields(contract)
        self._decode = msgspec.json.Decoder(self._fields.struct).decode

    def decode(self, value: bytes | None, now: int, sent: int) -> Envelope:
        if value is None:
            return Envelope(sent, None, None, None, None, "empty_value", "$")
        try:
            row = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._dead(value, now, sent, find_problem(value) or explain(error))
        plain = self._fields.is_plain(value, row)
        problem = (None if plain else find_problem(value)) or self._fields.problem(row, value, plain=plain)
        return self._dead(value, now, sent, problem) if problem else self._located(row, value, now, sent, _op(value))

    def _located(self, row: Any, value: bytes, now: int, sent: int, op: str, path: str = "$") -> Envelope:
        contract = self._contract
        event_time = self._start
        if contract.time_column:
            created_at = getattr(row, contract.time_column)
            if not isinstance(created_at, datetime):
                return self._dead(value, now, sent, ("missing_field", f"{path}.{contract.time_column}"))
            event_time = microseconds(created_at)
            if reason := implausible(event_time, now, self._start):
                return self._dead(value, now, sent, (reason, f"{path}.{contract.time_column}"))
        key = [getattr(row, name) for name in contract.primary_key]
        for name, part in zip(contract.primary_key, key, strict=True):
            if part is None or part is msgspec.UNSET:
                return self._dead(value, now, sent, ("missing_field", f"{path}.{name}"))
        correlation_id = getattr(row, contract.correlation_id) if contract.correlation_id else None
        return Envelope(event_time, row_key(key), op, _text(correlation_id), contract.version)

    def _dead(self, value: bytes, now: int, sent: int, problem: Problem) -> Envelope:
        contract = self._contract
        key = contract.primary_key[0] if len(contract.primary_key) == 1 else None
        names = [key, None, contract.correlation_id, None]
        return _dead_letter(value, now, sent, problem, names, contract.time_column, self._start)


class _ChangeDecoder(_RowDecoder):
    """Debezium change envelopes, with or without ``{"schema": …, "payload": …}`` around them.

    A delete must hold the whole old row (``REPLICA IDENTITY FULL``): without its creation time nobody knows its hour.
    """

    def __init__(self, contract: RowsContract, start: datetime) -> None:
        super().__init__(contract, start)
        self._before_fields = Fields(contract, partial=True)
        change = msgspec.defstruct(
            "Change",
            [
                ("op", Literal["c", "u", "r", "d"]),
                ("after", self._fields.struct | None, None),
                ("before", self._before_fields.struct | None, None),
            ],
        )
        wrapped = msgspec.defstruct("Wrapped", [("payload", change | msgspec.UnsetType, msgspec.UNSET)])
        self._change: Callable[[bytes], Any] = msgspec.json.Decoder(change).decode
        self._wrapped: Callable[[bytes], Any] = msgspec.json.Decoder(wrapped).decode

    def decode(self, value: bytes | None, now: int, sent: int) -> Envelope:
        if value is None:  # follows a delete so that compaction may forget the key; says nothing new
            return Envelope(sent, None, "tombstone", None, None)
        if problem := find_problem(value):
            return self._dead(value, now, sent, problem)
        path = "$.payload"
        try:
            change = self._wrapped(value).payload
            if change is msgspec.UNSET:
                path = "$"
                change = self._change(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._dead(value, now, sent, explain(error))
        side, fields = ("before", self._before_fields) if change.op == "d" else ("after", self._fields)
        row = getattr(change, side)
        if row is None:
            return self._dead(value, now, sent, ("missing_field", f"{path}.{side}"))
        if problem := fields.problem(row, value, f"{path}.{side}"):
            return self._dead(value, now, sent, problem)
        return self._located(row, value, now, sent, change.op, f"{path}.{side}")


def _op(value: bytes) -> str:
    return "d" if REMOVED in value else "r"


def row_key(values: list[Any]) -> str:
    """Return one text for the values of a primary key: the value itself, or a JSON list of several."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False, separators=(",", ":"))


def _text(value: object) -> str | None:
    return None if value is None or value is msgspec.UNSET else str(value)


_EXPLANATIONS = (
    (re.compile(r"Object missing required field `([^`]*)`"), "missing_field"),
    (re.compile(r"got `null`"), "null_field"),
    (re.compile(r"Invalid enum value"), "not_allowed"),
    (re.compile(r"of length"), "wrong_length"),
    (re.compile(r"Expected `\w+` >= "), "below_minimum"),
    (re.compile(r"Expected `\w+` <= "), "above_maximum"),
    (re.compile(r"Number out of range"), "number_out_of_range"),
    (re.compile(r"Invalid (RFC3339|enum|UUID)|timezone component"), "malformed_value"),
    (re.compile(r"Expected `"), "wrong_type"),
)
_AT = re.compile(r" - at `([^`]*)`$")


def explain(error: Exception) -> Problem:
    """Return reason code and path of an error of msgspec; its message is never kept: it may hold the value."""
    if isinstance(error, RecursionError):
        return "too_deep", "$"
    if isinstance(error, UnicodeDecodeError):
        return "invalid_utf8", f"byte {error.start}"
    message = str(error)
    at = _AT.search(message)
    path = at[1] if at else "$"
    for pattern, reason in _EXPLANATIONS:
        if found := pattern.search(message):
            return reason, f"{path}.{found[1]}" if reason == "missing_field" else path
    return "invalid_json", path


def _dead_letter(
    value: bytes, now: int, sent: int, problem: Problem, names: list[str | None], time_name: str | None, start: int
) -> Envelope:
    """Keep what can be read of a bad message, so that it can be found by its ids and counted in its hour."""
    event_time = sent
    parts: list[str | None] = [None] * 4
    try:
        parsed = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        parts = [_storable(parsed.get(name)) if name else None for name in names]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        try:
            claimed = microseconds(msgspec.convert(parsed.get(time_name), Annotated[datetime, msgspec.Meta(tz=True)]))  # pyright: ignore[reportUnknownMemberType]
            if not implausible(claimed, now, start):
                event_time = claimed
        except msgspec.ValidationError:
            pass
    event_id, event_type, correlation_id, version = parts
    return Envelope(max(event_time, start), event_id, event_type, correlation_id, version, problem[0], problem[1][:500])


def _storable(part: object) -> str | None:
    if not isinstance(part, str) or len(part) > 200 or "\x00" in part:
        return None
    return part if part.isascii() or not any("\ud800" <= c <= "\udfff" for c in part) else None
