"""Message → row of the log, encoded for a binary COPY."""

from dataclasses import dataclass, field
from struct import Struct

from incident_pipelines.core.contracts.ddl import ENVELOPE
from incident_pipelines.core.contracts.decoder import Envelope

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

HOUR_MICROSECONDS = 3_600_000_000

_place = Struct(">hiiii").pack
_timed = Struct(">iqiqiqiq").pack
_untimed = Struct(">iqiiqiq").pack
_length = Struct(">i").pack
_NULL = _length(-1)
# The same as texts: each character is one byte in Latin-1.
_NULL_TEXT = _NULL.decode("latin-1")
_SHORT = 256
_LENGTHS = [_length(length).decode("latin-1") for length in range(_SHORT)]
_TOO_LONG = ("", "")
_KNOWN_TEXTS = 1_000


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
    rows: list[bytes] = field(default_factory=list[bytes])
    hours: dict[int, HourCount] = field(default_factory=dict[int, HourCount])
    size_bytes: int = 0
    _repeated: dict[tuple[str | None, str | None], tuple[str, str]] = field(
        default_factory=dict[tuple[str | None, str | None], tuple[str, str]]
    )

    def __post_init__(self) -> None:
        self._place = _place(len(ENVELOPE), 4, self.origin_id, 4, self.partition)

    def add(
        self,
        position: int,
        envelope: Envelope,
        value: bytes | None,
        kafka_timestamp: int | None = None,
        key: bytes | None = None,
        headers: bytes | None = None,
    ) -> int:
        """Encode one message and count it in its hour; return the size of the batch in bytes.

        Args:
            position: offset, or number in an origin that is no topic.
            kafka_timestamp: microseconds since 2000-01-01 UTC.
        """
        event_time, event_id, event_type, correlation_id, version, reason, reason_path = envelope
        head = (
            _timed(8, position, 8, kafka_timestamp, 8, self.landed_at, 8, event_time)
            if kafka_timestamp is not None
            else _untimed(8, position, -1, 8, self.landed_at, 8, event_time)
        )
        repeated = self._repeated.get((event_type, version)) or self._repeat(event_type, version)
        if (
            reason is None
            and (event_id is None or (event_id.isascii() and len(event_id) < _SHORT))
            and (correlation_id is None or (correlation_id.isascii() and len(correlation_id) < _SHORT))
            and repeated is not _TOO_LONG
        ):
            # One string and one encoding for what nearly every message has: four short ASCII texts.
            described = (
                f"{_NULL_TEXT if event_id is None else f'{_LENGTHS[len(event_id)]}{event_id}'}{repeated[0]}"
                f"{_NULL_TEXT if correlation_id is None else f'{_LENGTHS[len(correlation_id)]}{correlation_id}'}"
                f"{repeated[1]}"
            ).encode("latin-1")
        else:
            described = b"".join(map(_text, (event_id, event_type, correlation_id, version, reason, reason_path)))
        row = b"".join(
            (
                self._place,
                head,
                described,
                _NULL if key is None else _length(len(key)) + key,
                _NULL if headers is None else _length(len(headers)) + headers,
                _NULL if value is None else _length(len(value)) + value,
            )
        )
        self.rows.append(row)
        self.size_bytes = size = self.size_bytes + len(row)
        hour = event_time // HOUR_MICROSECONDS
        count = self.hours.get(hour)
        if count is None:
            self.hours[hour] = HourCount(1, int(reason is not None), position, position)
            return size
        count.rows += 1
        count.last_position = position
        if reason is not None:
            count.dead_letters += 1
        return size

    def copy_data(self) -> bytes:
        """Return the whole batch as the data of a binary COPY into the log."""
        return b"".join((COPY_HEADER, *self.rows, COPY_TRAILER))

    def _repeat(self, event_type: str | None, version: str | None) -> tuple[str, str]:
        """Encode what comes again and again: event type, and version with the two absent fields behind it."""
        texts = [event_type, version]
        if any(text is not None and (not text.isascii() or len(text) >= _SHORT) for text in texts):
            return _TOO_LONG
        kind, written_under = (_NULL_TEXT if text is None else _LENGTHS[len(text)] + text for text in texts)
        repeated = kind, f"{written_under}{_NULL_TEXT}{_NULL_TEXT}"
        if len(self._repeated) < _KNOWN_TEXTS:
            self._repeated[event_type, version] = repeated
        return repeated


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return _length(len(encoded)) + encoded
