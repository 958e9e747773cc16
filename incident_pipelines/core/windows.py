"""Spans of time: half-open, UTC."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, order=True)
class TimeWindow:
    """The instants t with ``start <= t < end``; both ends are aware and in UTC.

    Raises:
        ValueError: an end is naive or not UTC, or the window is empty or turned around.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for instant in (self.start, self.end):
            if instant.utcoffset() != timedelta(0):
                raise ValueError(f"{instant.isoformat()} is not in UTC")
        if self.end <= self.start:
            raise ValueError(f"window ends at {self.end.isoformat()}, not after its start {self.start.isoformat()}")

    @classmethod
    def hour_of(cls, instant: datetime) -> "TimeWindow":
        """Return the UTC hour that holds the instant."""
        start = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return cls(start, start + HOUR)

    @classmethod
    def day_of(cls, instant: datetime) -> "TimeWindow":
        """Return the UTC day that holds the instant."""
        start = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(start, start + DAY)

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def overlaps(self, other: "TimeWindow") -> bool:
        """Whether the two have an instant in common."""
        return self.start < other.end and other.start < self.end

    def split(self, step: timedelta) -> Iterator["TimeWindow"]:
        """Yield the window in steps from its start; the last one may be shorter."""
        start = self.start
        while start < self.end:
            yield TimeWindow(start, min(start + step, self.end))
            start += step

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%d %H:%M}, {self.end:%Y-%m-%d %H:%M})"
