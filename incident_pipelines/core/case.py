"""One business case: what was found of it in each place, and what that says about its way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from incident_pipelines.core.contracts.model import Column, EventContract, Landed

LogPlace = tuple[str, int, int, int]
"""(contract, origin, partition, position) of a row of the log."""

WindowKey = tuple[str, datetime]
"""(dataset, start of the window)"""


@dataclass(frozen=True)
class SourceRow:
    """A row as its source's database holds it now.

    Args:
        key: primary key as the log writes it.
        image: JSON that an extract would append.
        at: when it was created, else changed; aware.
    """

    contract: str
    source: str
    table: str
    key: str
    image: bytes
    at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True)
class LogRow:
    """A row of the landing log; a dead letter if it has a reason.

    Args:
        kind: of its origin.
        topic, topic_id: where it was read; None for an origin that is no topic.
    """

    place: LogPlace
    kind: str
    topic: str | None
    topic_id: str | None
    kafka_timestamp: datetime | None
    landed_at: datetime
    event_time: datetime
    event_id: str | None
    event_type: str | None
    reason: str | None
    reason_path: str | None
    value: bytes | None

    @property
    def contract(self) -> str:
        """Dataset whose log it is."""
        return self.place[0]


@dataclass(frozen=True)
class Record:
    """What Kafka says about a record that is in the log.

    Args:
        state: ``held``; ``aged_out``, ``compacted``: below or between what the topic holds; ``recreated``, ``deleted``,
            ``cut``: the topic is another one, gone, or ends before; ``no_answer``: not within the deadline.
        log_start: first offset the partition holds.
    """

    state: Literal["held", "aged_out", "compacted", "recreated", "deleted", "cut", "no_answer"]
    value: bytes | None = None
    log_start: int | None = None


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of the log that its window withheld."""

    place: LogPlace
    window_start: datetime
    key: str
    reasons: tuple[str, ...]
    quarantined_at: datetime


@dataclass(frozen=True)
class PublishedRow:
    """A row of a raw table or a mart.

    Args:
        place: of the row of the log it was made from; None in a mart.
    """

    dataset: str
    window_start: datetime
    values: Mapping[str, Any]
    place: LogPlace | None = None


@dataclass(frozen=True)
class Window:
    """What was decided about a window last.

    Args:
        state: None if nothing was yet.
        stale: its inputs are newer than that decision.
    """

    state: Literal["published", "refused"] | None = None
    stale: bool = False
    failed_rules: tuple[str, ...] = ()
    decided_at: datetime | None = None


@dataclass
class Case:
    """Everything that was found under one correlation id.

    Args:
        records: what Kafka says of the rows of the log that came from a topic.
        windows: of all rows found.
        unavailable: what could not be looked at, and why.
        notes: what was left out, for a reader.
    """

    correlation_id: str
    source_rows: list[SourceRow] = field(default_factory=list[SourceRow])
    log_rows: dict[LogPlace, LogRow] = field(default_factory=dict[LogPlace, LogRow])
    records: dict[LogPlace, Record] = field(default_factory=dict[LogPlace, Record])
    quarantined: list[QuarantinedRow] = field(default_factory=list[QuarantinedRow])
    raw_rows: list[PublishedRow] = field(default_factory=list[PublishedRow])
    mart_rows: list[PublishedRow] = field(default_factory=list[PublishedRow])
    windows: dict[WindowKey, Window] = field(default_factory=dict[WindowKey, Window])
    unavailable: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def found(self) -> bool:
        """Whether anything was."""
        return bool(self.source_rows or self.log_rows or self.quarantined or self.raw_rows or self.mart_rows)


def fits_text(text: str) -> str | None:
    """Return why a text cannot be a correlation id anywhere, None if it can."""
    if not text.strip():
        return "it is empty"
    if len(text) > 200:
        return f"it has {len(text)} characters, and no correlation id has more than 200"
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "it holds characters that no database stores"
    return None


def canonical_uuid(text: str) -> str | None:
    """Return a UUID as databases write it, None if the text is none of the usual form."""
    digits = text.strip().lower()
    parts = digits.split("-")
    if [len(part) for part in parts] != [8, 4, 4, 4, 12] or any(set(part) - set("0123456789abcdef") for part in parts):
        return None
    return digits


def correlation_value(column: Column, text: str) -> str | int | None:
    """Return the id as the column's type has it, None if no row of that column can have it."""
    match column.type:
        case "uuid":
            return canonical_uuid(text)
        case "integer":
            digits = text.strip().removeprefix("-")
            number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
            return number if number is not None and -(2**63) <= number < 2**63 else None
        case _:
            return text


def same_key(contract: Landed, one: str | None, other: str | None) -> bool:
    """Whether two keys of the log mean the same event or row."""
    if one is None or other is None:
        return False
    if isinstance(contract, EventContract) and contract.column(contract.event_id).type == "uuid":
        return one.lower() == other.lower()
    return one == other
