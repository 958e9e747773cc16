"""Message → row of the log, encoded for a binary COPY."""

from dataclasses import dataclass, field
from struct import Struct

from incident_pipelines.core.contracts.ddl import ENVELOPE
from incident_pipelines.core.contracts.decoder import Envelope

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

HOUR_MICROSECONDS = 3_600_000_000

_TIMED = Struct(">hiiiiiqiqiqiq")
_UNTIMED = Struct(">hiiiiiqiiqiq")
_FIELDS = len(ENVELOPE)
_length = Struct(">i").pack
_NULL = _length(-1)
_NO_REASON = _NULL + _NULL


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
    _texts: dict[str | None, bytes] = field(default_factory=lambda: {None: _NULL})

    def add(
        self,
        position: int,
        envelope: Envelope,
        value: bytes | None,
        *,
        kafka_timestamp: int | None = None,
        key: bytes | None = None,
        headers: bytes | None = None,
    ) -> None:
        """Encode one message and count it in its hour.

        Args:
            position: offset, or number in an origin that is no topic.
            kafka_timestamp: microseconds since 2000-01-01 UTC.
        """
        event_time, event_id, event_type, correlation_id, version, reason, reason_path = envelope
        texts = self._texts
        if kafka_timestamp is None:
            head = _UNTIMED.pack(
                _FIELDS, 4, self.origin_id, 4, self.partition, 8, position, -1, 8, self.landed_at, 8, event_time
            )
        else:
            head = _TIMED.pack(
                _FIELDS,
                4,
                self.origin_id,
                4,
                self.partition,
                8,
                position,
                8,
                kafka_timestamp,
                8,
                self.landed_at,
                8,
                event_time,
            )
        id_bytes = _NULL if event_id is None else event_id.encode()
        correlation_bytes = _NULL if correlation_id is None else correlation_id.encode()
        row = b"".join(
            (
                head,
                b"" if event_id is None else _length(len(id_bytes)),
                id_bytes,
                texts.get(event_type) or self._repeated(event_type),
                b"" if correlation_id is None else _length(len(correlation_bytes)),
                correlation_bytes,
                texts.get(version) or self._repeated(version),
                _NO_REASON if reason is None else self._repeated(reason) + _text(reason_path),
                _NULL if key is None else _length(len(key)) + key,
                _NULL if headers is None else _length(len(headers)) + headers,
                _NULL if value is None else _length(len(value)) + value,
            )
        )
        self.rows.append(row)
        self.size_bytes += len(row)
        hour = event_time // HOUR_MICROSECONDS
        count = self.hours.get(hour)
        if count is None:
            self.hours[hour] = HourCount(1, int(reason is not None), position, position)
            return
        count.rows += 1
        count.last_position = position
        if reason is not None:
            count.dead_letters += 1

    def copy_data(self) -> bytes:
        """Return the whole batch as the data of a binary COPY into the log."""
        return b"".join((COPY_HEADER, *self.rows, COPY_TRAILER))

    def _repeated(self, text: str | None) -> bytes:
        """Encode a text that comes again and again."""
        encoded = self._texts.get(text)
        if encoded is None:
            encoded = _text(text)
            if len(self._texts) < 1_000:
                self._texts[text] = encoded
        return encoded


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return _length(len(encoded)) + encoded
