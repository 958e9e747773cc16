"""What is compared, and what a difference is."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.reconciliation.values import Value

Kind = Literal["missing", "unexpected", "mismatched"]
SideName = Literal["source", "target"]


class InvalidComparison(IncidentPipelinesError):
    """What is to be compared cannot be: a table or column is not there, or an option does not fit it."""


@dataclass(frozen=True)
class ComparedColumn:
    """A column of both sides.

    Args:
        name: what the difference calls it.
        source, target: its names in the tables; "" where a carried column is not on that side.
        tolerance: largest absolute difference that counts as equal, in the column's unit; seconds for a timestamp.
        ignore_case: whether texts that differ only in case are equal.

    Raises:
        InvalidComparison: the tolerance is negative or no number.
    """

    name: str
    source: str
    target: str
    tolerance: Decimal | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if self.tolerance is not None and not (self.tolerance.is_finite() and self.tolerance >= 0):
            raise InvalidComparison(f"tolerance {self.tolerance} of column {self.name}: give a number, at least 0")

    def on(self, side: SideName) -> str:
        """Return the column's name on one side."""
        return self.source if side == "source" else self.target


@dataclass(frozen=True)
class Comparison:
    """What two tables are compared by.

    Args:
        key: columns that say which rows belong together.
        columns: columns that have to be equal; with none, only the presence of keys is compared.
        time: what a `TimeRange` selects by.
        carried: read along with a differing row, never compared.

    Raises:
        InvalidComparison: no key, a key with a tolerance, or a name that stands for two columns.
    """

    key: tuple[ComparedColumn, ...]
    columns: tuple[ComparedColumn, ...]
    time: ComparedColumn | None = None
    carried: tuple[ComparedColumn, ...] = ()

    def __post_init__(self) -> None:
        if not self.key:
            raise InvalidComparison("a comparison needs a key: the columns that say which rows belong together")
        for column in self.key:
            if column.tolerance is not None:
                raise InvalidComparison(
                    f"key column {column.name} cannot have a tolerance: rows are paired by equal keys"
                )
        names = [column.name for column in self.read]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidComparison(f"column {', '.join(twice)} is named more than once in the comparison")

    @property
    def read(self) -> tuple[ComparedColumn, ...]:
        """All columns of a row, each once: key, compared, time, carried."""
        time = () if self.time is None or self.time in (*self.key, *self.columns) else (self.time,)
        return (*self.key, *self.columns, *time, *self.carried)


@dataclass(frozen=True)
class Difference:
    """Two rows, or one and its absence.

    Args:
        kind: ``missing`` is in the source only, ``unexpected`` in the target only.
        key: name → value.
        occurrence: which difference of its key and kind this is; 0 unless the key is there more than once.
        columns: name → values of source and target, of what differs; all compared columns of a missing or unexpected
            row, with None for the absent side.
        source, target: the whole rows; None for the absent side.
    """

    kind: Kind
    key: Mapping[str, Value]
    occurrence: int
    columns: Mapping[str, tuple[Value, Value]]
    source: Mapping[str, Value] | None
    target: Mapping[str, Value] | None


@dataclass
class Counts:
    """Rows looked at on both sides, and differences by kind."""

    source: int = 0
    target: int = 0
    missing: int = 0
    unexpected: int = 0
    mismatched: int = 0

    @property
    def differences(self) -> int:
        """All differences."""
        return self.missing + self.unexpected + self.mismatched

    def add(self, kind: Kind) -> None:
        """Count one difference."""
        match kind:
            case "missing":
                self.missing += 1
            case "unexpected":
                self.unexpected += 1
            case "mismatched":
                self.mismatched += 1
