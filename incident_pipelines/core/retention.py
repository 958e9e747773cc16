"""How long a topic has to keep its records: the floor under its retention, and what a short one is put back to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

LAG_FACTOR = 2
"""Retention is at least so many times the lag of whoever reads the topic (SPEC §6)."""

LAG_ROOM = 2
"""What is put back for the sake of a lag is so many times the floor: a lag that grows is not below it again at once."""

UNLIMITED = -1
"""Kafka's word for "never by age"."""


@dataclass(frozen=True)
class TopicSettings:
    """What the broker does with old records of a topic.

    Args:
        retention_ms: -1: kept whatever their age.
        retention_bytes: of each partition; -1: kept whatever their size.
        overridden: the topic has a retention of its own, and not the broker's default.
        cleanup_policy: as Kafka writes it: ``delete``, ``compact``, or both with a comma.
    """

    topic: str
    retention_ms: int
    retention_bytes: int
    overridden: bool
    cleanup_policy: str

    @property
    def drops_by_age(self) -> bool:
        """Whether a record goes because it is old; compaction alone drops older records of a key at any age."""
        return "delete" in self.cleanup_policy and self.retention_ms >= 0

    @property
    def drops_by_size(self) -> bool:
        """Whether a record may go before its time."""
        return "delete" in self.cleanup_policy and self.retention_bytes >= 0


@dataclass(frozen=True)
class Floor:
    """The least that a topic's retention may be.

    Args:
        reason: where that comes from, as a person is told.
        by_lag: it is a reader's lag that asks for it, and not the contract.
    """

    milliseconds: int
    reason: str
    by_lag: bool = False


def floor_of(contract_days: int | None, lags: Mapping[str, timedelta]) -> Floor | None:
    """Return the larger of what the contract asks for and twice the lag of the reader that is furthest behind.

    Args:
        contract_days: None: the contract asks for nothing.
        lags: who reads the topic → how old its next unread record is; those without one are left out.

    Returns:
        None if nobody asks for anything.
    """
    floors = [] if contract_days is None else [Floor(_milliseconds(timedelta(days=contract_days)), "the contract")]
    for reader, lag in sorted(lags.items()):
        if lag > timedelta(0):
            reason = f"{LAG_FACTOR} x the lag of {reader}, {duration_text(_milliseconds(lag))}"
            floors.append(Floor(LAG_FACTOR * _milliseconds(lag), reason, by_lag=True))
    return max(floors, key=lambda floor: floor.milliseconds, default=None)


def below_floor(settings: TopicSettings, floor: Floor | None) -> bool:
    """Whether records may go before they have to stay."""
    return floor is not None and settings.drops_by_age and settings.retention_ms < floor.milliseconds


def put_back(settings: TopicSettings, floor: Floor | None, known_ms: int | None = None) -> int:
    """Return the retention in milliseconds that a topic has to get; its own where that is no shorter than the floor.

    Args:
        known_ms: what it had when nothing was wrong, if that is known; -1: unlimited.
    """
    if floor is None or not below_floor(settings, floor):
        return settings.retention_ms
    if known_ms == UNLIMITED:
        return UNLIMITED
    return max(floor.milliseconds * (LAG_ROOM if floor.by_lag else 1), known_ms or 0)


def shorter(before_ms: int, after_ms: int) -> bool:
    """Whether a change of retention drops records sooner."""
    return after_ms >= 0 and (before_ms < 0 or after_ms < before_ms)


def duration_text(milliseconds: int) -> str:
    """Return a duration as a person writes it, cut off after two units: ``7d``, ``1h30m``, ``250ms``, ``unlimited``."""
    if milliseconds < 0:
        return "unlimited"
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    seconds = milliseconds // 1_000
    for unit, size, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size}{unit}{f'{rest}{below}' if rest else ''}"
    return f"{seconds}s"


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
