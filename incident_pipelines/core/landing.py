"""Messages → rows of the log, encoded for a binary COPY."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from incident_pipelines.core.contracts.ddl import ENVELOPE
from incident_pipelines.core.contracts.decoder import Envelopes

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

HOUR_MICROSECONDS = 3_600_000_000

_Integers = NDArray[np.int64]

_length = Struct(">i").pack
_NULL = _length(-1)

# The numbers that each row begins with, each behind its length; those of NULL are cut out.
_NUMBERS = (("origin", 4), ("partition", 4), ("position", 8), ("sent", 8), ("landed", 8), ("event", 8))
_HEAD = np.dtype(
    [("columns", ">i2")]
    + [(name + part, f">i{size}") for name, bytes_ in _NUMBERS for part, size in (("_length", 4), ("", bytes_))]
)
_SENT_AT = slice(_HEAD.fields["sent_length"][1], _HEAD.fields["landed_length"][1]) if _HEAD.fields else slice(0)


class Messages(NamedTuple):
    """Messages, at least one, by column.

    Args:
        sent: microseconds since 2000-01-01 UTC; None where that is not known.
    """

    values: Sequence[bytes | None]
    sent: Sequence[int | None]
    keys: Sequence[bytes | None]
    headers: Sequence[bytes | None]

    @classmethod
    def of(
        cls,
        values: Sequence[bytes | None],
        sent: Sequence[int | None] | None = None,
        keys: Sequence[bytes | None] | None = None,
        headers: Sequence[bytes | None] | None = None,
    ) -> "Messages":
        """Fill in the columns that are not given with None."""
        absent = [None] * len(values)
        return cls(values, sent or absent, keys or absent, headers or absent)

    def taken(self, places: Sequence[int]) -> "Messages":
        """Return those at some places, at least one, in that order."""
        return Messages(
            [self.values[place] for place in places],
            [self.sent[place] for place in places],
            [self.keys[place] for place in places],
            [self.headers[place] for place in places],
        )


@dataclass(slots=True)
class HourCount:
    """What one batch adds to one hour of one (origin, partition).

    Args:
        rows: rows of the log, dead letters included.
        first_position, last_position: both are in the batch.
    """

    rows: int
    dead_letters: int
    first_position: int
    last_position: int


@dataclass
class LogBatch:
    """Rows of one (origin, partition) on their way into the log, in ascending order of position.

    Args:
        origin_id, partition: what the positions belong to.
        landed_at: microseconds since 2000-01-01 UTC.
    """

    origin_id: int
    partition: int
    landed_at: int
    rows: int = 0
    size_bytes: int = 0
    hours: dict[int, HourCount] = field(default_factory=dict[int, HourCount])
    _encoded: list[bytes] = field(default_factory=list[bytes])

    def add(self, positions: Sequence[int], messages: Messages, envelopes: Envelopes) -> None:
        """Encode messages and count them in their hours.

        Args:
            positions: ascending; offset, or number in an origin that is no topic.
        """
        places = np.asarray(positions, np.int64)
        times = np.asarray(envelopes.event_times, np.int64)
        encoded = _join(
            self._heads(places, messages.sent, times),
            *_sized(_utf8(envelopes.event_ids)),
            _repeated(envelopes.event_types),
            *_sized(_utf8(envelopes.correlation_ids)),
            _repeated(envelopes.schema_versions),
            _repeated(envelopes.reasons),
            _repeated(envelopes.reason_paths),
            *_sized(messages.keys),
            *_sized(messages.headers),
            *_sized(messages.values),
        )
        self._encoded.append(encoded)
        self.rows += len(times)
        self.size_bytes += len(encoded)
        self._count(times, places, envelopes.reasons)

    def copy_data(self) -> Iterator[bytes]:
        """Give the whole batch, piece by piece, as the data of a binary COPY into the log."""
        yield COPY_HEADER
        yield from self._encoded
        yield COPY_TRAILER

    def _heads(self, positions: _Integers, sent: Sequence[int | None], times: _Integers) -> list[bytes]:
        unknown = None in sent
        head = np.empty(len(times), _HEAD)
        head["columns"] = len(ENVELOPE)
        for name, size in _NUMBERS:
            head[f"{name}_length"] = size
        head["origin"], head["partition"] = self.origin_id, self.partition
        head["position"] = positions
        head["sent"] = [at or 0 for at in sent] if unknown else sent
        head["landed"] = self.landed_at
        head["event"] = times
        heads: list[bytes] = head.view(f"V{_HEAD.itemsize}").tolist()
        if unknown:
            for number, at in enumerate(sent):
                if at is None:
                    heads[number] = heads[number][: _SENT_AT.start] + _NULL + heads[number][_SENT_AT.stop :]
        return heads

    def _count(self, times: _Integers, positions: _Integers, reasons: Sequence[str | None]) -> None:
        hours = times // HOUR_MICROSECONDS
        dead = np.fromiter((reason is not None for reason in reasons), np.bool_, len(reasons))
        for hour in np.unique(hours).tolist():
            there = hours == hour
            of_hour = positions[there]
            rows, dead_letters = len(of_hour), int(np.count_nonzero(dead & there))
            count = self.hours.get(hour)
            if count is None:
                self.hours[hour] = HourCount(rows, dead_letters, int(of_hour[0]), int(of_hour[-1]))
            else:
                count.rows += rows
                count.dead_letters += dead_letters
                count.last_position = int(of_hour[-1])


_Column = bytes | Sequence[bytes]
"""One part of each row; bytes alone where all rows have the same."""


def _join(*columns: _Column) -> bytes:
    """Put rows together from their parts, in one join: nothing is copied twice."""
    parts: list[Iterable[bytes]] = []
    same = b""
    for column in columns:
        if isinstance(column, bytes):
            same += column
            continue
        if same:
            parts.append(repeat(same))
            same = b""
        parts.append(column)
    if same:
        parts.append(repeat(same))
    return b"".join(chain.from_iterable(zip(*parts, strict=False)))


def _sized(column: Sequence[bytes | None]) -> tuple[_Column, _Column]:
    """Return the lengths of the values, encoded, and the values; an absent one is a length of -1 and no bytes."""
    if None in column:
        if column.count(None) == len(column):
            return _NULL, b""
        return (
            [_NULL if value is None else _length(len(value)) for value in column],
            [value or b"" for value in column],
        )
    present: Sequence[bytes] = column  # pyright: ignore[reportAssignmentType]
    lengths = list(map(len, present))
    if lengths.count(lengths[0]) == len(lengths):
        return _length(lengths[0]), present
    return np.array(lengths, ">i4").view("V4").tolist(), present


def _utf8(column: Sequence[str | None]) -> Sequence[bytes | None]:
    if None in column:
        return [None if text is None else text.encode() for text in column]
    return list(map(str.encode, column))  # pyright: ignore[reportArgumentType]


def _repeated(column: Sequence[str | None]) -> _Column:
    """Encode texts of which there are few different ones, each behind its length."""
    known = {text: _text(text) for text in set(column)}
    if len(known) == 1:
        return known[column[0]]
    return list(map(known.__getitem__, column))


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return _length(len(encoded)) + encoded
