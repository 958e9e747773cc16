"""What was emitted and acknowledged, on disk: the app's audit log, and the ground truth that drills compare with.

Both are append-only and may be written by several processes at once (a lock for each file). What a crash cut off is
completed or dropped by the next writer, so readers see whole records only. After a crash between the acknowledgement
and the mark in the outbox an event is sent and recorded again, under the same event_id.
"""

import fcntl
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from incident_pipelines.example.events import EVENT_TYPES, PAGE_VIEWS, TOPICS, Event, timestamp_text

# Event id, correlation id, event time in µs, amount in cents, index of the topic, index of the event type.
_RECORD = struct.Struct("<16s16sqqBB")
_TOPIC_INDEX = {topic: index for index, topic in enumerate(TOPICS)}
_TYPE_INDEX = {event_type: index for index, event_type in enumerate(EVENT_TYPES)}


@dataclass(frozen=True)
class Acknowledged:
    """An event that its destination has acknowledged: event time in microseconds since 1970, amount in cents."""

    event_id: str
    correlation_id: str
    time_us: int
    amount_cents: int
    topic: str
    event_type: str


class AuditLog:
    """JSON lines by topic and day of the event: ``{"topic", "key", "event_id", "value"}``, value as it was sent.

    Args:
        folder: made if it is missing.
        durable: whether `append` returns only once the lines are on disk.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder / "audit"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._durable = durable

    def append(self, events: Iterable[Event]) -> None:
        """Append events of the app and of billing; page views are emitted and forgotten."""
        lines: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for event in events:
            if event.topic != PAGE_VIEWS:
                head = f'{{"topic":"{event.topic}","key":"{event.key}","event_id":"{event.event_id}","value":'
                lines[event.topic, timestamp_text(event.time_us)[:10]].append(head.encode() + event.value + b"}\n")
        for (topic, day), group in lines.items():
            path = self._folder / f"{topic}-{day}.jsonl"
            _append(path, b"".join(group), _end_line, durable=self._durable)


class GroundTruth:
    """Every acknowledged event in 50 bytes, by day of the event; readable by its owner only.

    Args:
        folder: made if it is missing.
        durable: whether `append` returns only once the records are on disk.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder / "ground_truth"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        self._durable = durable

    def append(self, events: Iterable[Event]) -> None:
        """Append acknowledged events."""
        records: dict[str, list[bytes]] = defaultdict(list)
        for event in events:
            records[timestamp_text(event.time_us)[:10]].append(
                _RECORD.pack(
                    bytes.fromhex(event.event_id.replace("-", "")),
                    bytes.fromhex(event.key.replace("-", "")),
                    event.time_us,
                    event.amount_cents,
                    _TOPIC_INDEX[event.topic],
                    _TYPE_INDEX[event.event_type],
                )
            )
        for day, group in records.items():
            _append(self._folder / f"{day}.bin", b"".join(group), _drop_part, durable=self._durable)

    def days(self) -> Sequence[str]:
        """Return the days (ISO dates, UTC) that have records."""
        return sorted(path.stem for path in self._folder.glob("*.bin"))

    def read(self, day: str) -> Iterator[Acknowledged]:
        """Yield the events of a day, in the order of their acknowledgement.

        Args:
            day: ISO date, UTC.
        """
        path = self._folder / f"{day}.bin"
        data = path.read_bytes() if path.exists() else b""
        whole = len(data) - len(data) % _RECORD.size
        for event_id, correlation_id, time_us, cents, topic, event_type in _RECORD.iter_unpack(data[:whole]):
            yield Acknowledged(
                str(UUID(bytes=event_id)),
                str(UUID(bytes=correlation_id)),
                time_us,
                cents,
                TOPICS[topic],
                EVENT_TYPES[event_type],
            )


def _append(path: Path, data: bytes, repair: Callable[[int], bytes], *, durable: bool) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        data = repair(handle) + data
        written = 0
        while written < len(data):
            written += os.write(handle, data[written:])
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def _end_line(handle: int) -> bytes:
    """A line that a crash cut off is no JSON; the next one must not be spoilt with it."""
    end = os.lseek(handle, 0, os.SEEK_END)
    return b"\n" if end and os.pread(handle, 1, end - 1) != b"\n" else b""


def _drop_part(handle: int) -> bytes:
    end = os.lseek(handle, 0, os.SEEK_END)
    if end % _RECORD.size:
        end -= end % _RECORD.size
        os.ftruncate(handle, end)
        os.lseek(handle, end, os.SEEK_SET)
    return b""
