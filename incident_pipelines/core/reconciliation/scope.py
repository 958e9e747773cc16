"""Which rows are compared."""

from dataclasses import dataclass
from datetime import datetime

from incident_pipelines.core.reconciliation.values import Value
from incident_pipelines.core.windows import TimeWindow


@dataclass(frozen=True)
class Everything:
    """All rows."""


@dataclass(frozen=True)
class TimeRange:
    """The keys that have a row in ``start <= time < end`` on a side; each of them is compared whole.

    A row whose time differs between the sides is one row, and not one that is missing here and unexpected there.

    Raises:
        ValueError: an end is not aware and in UTC, or the range is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        TimeWindow(self.start, self.end)


@dataclass(frozen=True)
class Keys:
    """The rows with one of these keys.

    Args:
        keys: values in the order of the comparison's key columns.

    Raises:
        ValueError: there are none; an empty selection must not come to mean everything.
    """

    keys: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("no keys to compare")


Scope = Everything | TimeRange | Keys
