"""Which rows may be taken out of raw because their source no longer has them; in doubt none."""

from dataclasses import dataclass
from datetime import timedelta

from incident_pipelines.core.windows import TimeWindow

GRACE = timedelta(minutes=15)
"""Rows younger than that are left alone: a copy of the source that lags may not have them yet."""

MAX_SHARE = 0.05
FEW_ROWS = 2
"""So many rows of a window may go whatever its share: else nothing could ever be removed from a quiet hour."""
MAX_ROWS = 1_000
"""Of one dataset, in one go, unless a person has named a larger number."""


@dataclass(frozen=True)
class WindowDeletes:
    """What a window of raw has and its source has not.

    Args:
        rows: the window has and that are old enough to be asked for.
        source_rows: the source returned for the window.
        keys: missing at the source, as the log writes them; none beyond the cap.
        refused: why they may not be removed without a person; None if they may.
    """

    window: TimeWindow
    rows: int
    source_rows: int
    keys: tuple[str, ...]
    refused: str | None = None


@dataclass(frozen=True)
class MissedDeletes:
    """Rows of a dataset that their source no longer has, by window; windows without any are left out."""

    dataset: str
    windows: tuple[WindowDeletes, ...] = ()

    @property
    def removable(self) -> tuple[WindowDeletes, ...]:
        """Windows whose rows may be removed."""
        return tuple(one for one in self.windows if one.refused is None)

    @property
    def refused(self) -> tuple[WindowDeletes, ...]:
        """Windows whose rows stay."""
        return tuple(one for one in self.windows if one.refused is not None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all rows that may be removed."""
        return tuple(key for one in self.removable for key in one.keys)


def cap_of(agreed: int | None) -> int:
    """Return how many rows may go in one go.

    Args:
        agreed: number that a person has named; None where nobody has.
    """
    return MAX_ROWS if agreed is None else agreed


def refusal(rows: int, source_rows: int, missing: int, before: int, agreed: int | None) -> str | None:
    """Return why the missing rows of a window may not be removed; None if they may.

    Args:
        before: rows of the windows before it that may be removed.
        agreed: as of `cap_of`; it takes the place of share and cap, and never of the answer of an empty source.
    """
    if source_rows == 0:
        return (
            f"the source returned no row at all where raw has {rows:,}: an empty answer never deletes; "
            "a window that is really empty is corrected by a reviewed file (`incident-pipelines correct`)"
        )
    if before + missing > cap_of(agreed):
        return f"more than {cap_of(agreed):,} rows would go in one go"
    if agreed is None and missing > max(FEW_ROWS, MAX_SHARE * rows):
        return f"{missing:,} of {rows:,} rows would go, more than {MAX_SHARE:.0%}"
    return None
