"""What a comparison needs of a table, whatever engine it is in."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from incident_pipelines.core.masking import printable
from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison, InvalidComparison, SideName
from incident_pipelines.core.reconciliation.digests import Buckets, Digest, Selection
from incident_pipelines.core.reconciliation.matching import RawRow
from incident_pipelines.core.reconciliation.values import Family, Value, ValueKind
from incident_pipelines.core.windows import TimeWindow

CHUNK_ROWS = 5_000
"""Rows fetched at a time."""


@dataclass(frozen=True)
class Filter:
    """Rows whose column has, or has not, one of some values; NULL has none of them."""

    column: str
    operator: Literal["in", "not_in"]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class TableRef:
    """A table, or a reviewed query, and which of its rows count.

    Args:
        url: SQLAlchemy URL; ``postgresql://`` is taken for psycopg 3.
        table: ``schema.table`` or ``table``; else `query` is given.
        query: a SELECT, used as a subquery.
        where: condition in the engine's SQL, as a person wrote it.
        filters: further conditions, all of which hold.

    Raises:
        InvalidComparison: both or neither of table and query, or a URL that is none.
    """

    url: str
    table: str | None = None
    query: str | None = None
    where: str | None = None
    filters: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        if (self.table is None) == (self.query is None):
            raise InvalidComparison("a side of a comparison is either a table or a query")
        try:
            make_url(self.url)
        except ArgumentError as error:
            # The message of the error would hold the URL, and the URL a password.
            raise InvalidComparison(
                "the address of a side is no database URL: write it like postgresql://user@host:5432/database"
            ) from error

    @property
    def name(self) -> str:
        """What messages call it: the URL without its password, and the table."""
        url = make_url(self.url)
        return printable(f"{url.set(query={}).render_as_string(hide_password=True)}::{self.table or '(query)'}")

    @property
    def parts(self) -> list[str]:
        """The table's name in parts, at most schema and table.

        Raises:
            InvalidComparison: it has more, or an empty one.
        """
        parts = (self.table or "").split(".")
        if len(parts) > 2 or not all(parts):
            raise InvalidComparison(f"{self.name}: name the table as schema.table or table")
        return parts


@dataclass(frozen=True)
class ColumnType:
    """A column as its engine has it.

    Args:
        type: the engine's name of it.
        nullable: whether it may hold NULL, as far as is known.
        bounded: whether it is a decimal with a set number of digits, which cannot be infinite.
    """

    family: Family
    type: str
    nullable: bool = True
    bounded: bool = False


@dataclass(frozen=True)
class PairedColumn:
    """A compared column with its types.

    Args:
        column: as it was asked for.
        name: its name on this side.
        own, other: its types on this side and the other one; None where a side has no such column.
    """

    column: ComparedColumn
    name: str
    own: ColumnType | None
    other: ColumnType | None
    kind: ValueKind


@dataclass(frozen=True)
class View:
    """How a side is looked at: the same for all questions that follow.

    Args:
        side: which side this is.
        key, columns, carried: what is read, in the order of `Comparison.read`; time stands with the carried.
        time: the column that `window` is about, if this side has it.
        window: rows outside are not in digests, and not in rows but for those that are asked for by key.
        native: whether the engine's own hashes are compared, and not those of canonical texts.
    """

    side: SideName
    key: tuple[PairedColumn, ...]
    columns: tuple[PairedColumn, ...]
    carried: tuple[PairedColumn, ...]
    time: PairedColumn | None
    window: TimeWindow | None
    native: bool

    @property
    def read(self) -> tuple[PairedColumn, ...]:
        """All columns that are read."""
        return (*self.key, *self.columns, *self.carried)


class ComparedTable(Protocol):
    """One side of a comparison, read in one read-only snapshot.

    Whatever is asked raises `SourceUnavailable` where the database does not answer in time, and `InvalidComparison`
    where it refuses the question.
    """

    @property
    def ref(self) -> TableRef:
        """What it is."""
        ...

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """All its columns, in their order."""
        ...

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Its primary key; empty where none is known."""
        ...

    @property
    def hashes(self) -> str | None:
        """Name of the native hashes; only sides of the same name can compare them. None where there are none."""
        ...

    @property
    def typed(self) -> bool:
        """Whether all values of a column have its type."""
        ...

    def look(self, view: View) -> None:
        """Set how it is looked at."""
        ...

    def estimated_rows(self) -> int:
        """Return how many rows there are, roughly."""
        ...

    def key_span(self) -> tuple[int, int] | None:
        """Return least and largest key, where ranges of an integer key can be read; None where not."""
        ...

    def digests(self, buckets: Buckets) -> dict[int, Digest]:
        """Return the digests of all rows by bucket."""
        ...

    def finer_digests(self, buckets: Buckets, selection: Selection) -> Iterator[tuple[int, int, int]]:
        """Yield (bucket, rows, sum) of the selection's rows, in the order of buckets."""
        ...

    def rows(self, selection: Selection | None) -> Iterator[tuple[int, RawRow]]:
        """Yield (bucket, row) of the selection's rows, in the order of the selection's buckets.

        Without a selection all rows, each with bucket 0.
        """
        ...

    def rows_of_keys(self, keys: Sequence[tuple[Value, ...]]) -> Iterator[RawRow]:
        """Yield the rows with one of some keys, whatever their time, and perhaps others."""
        ...

    def cancel(self) -> None:
        """End what is running, from another thread."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def view_of(
    side: SideName,
    comparison: Comparison,
    kinds: Mapping[str, ValueKind],
    own: Mapping[str, ColumnType],
    other: Mapping[str, ColumnType],
    window: TimeWindow | None,
    native: bool,
) -> View:
    """Return how one side is looked at."""
    other_side: SideName = "target" if side == "source" else "source"

    def paired(column: ComparedColumn) -> PairedColumn:
        name = column.on(side)
        return PairedColumn(column, name, own.get(name), other.get(column.on(other_side)), kinds[column.name])

    behind = comparison.read[len(comparison.key) + len(comparison.columns) :]
    time = paired(comparison.time) if comparison.time and comparison.time.on(side) else None
    return View(
        side,
        tuple(paired(column) for column in comparison.key),
        tuple(paired(column) for column in comparison.columns),
        tuple(paired(column) for column in behind),
        time,
        window if time else None,
        native,
    )


def comparable(column: PairedColumn) -> bool:
    """Whether equal texts of both sides mean equal values; where not, all that is not NULL has to be read."""
    if column.own is None or column.other is None:
        return True
    families: set[Family] = {column.own.family, column.other.family}
    if column.kind in ("text", "bytes"):
        return len(families) == 1 or families <= {"text", "other"}
    return True


def cell_width(column: PairedColumn) -> float | None:
    """Return half the tolerance; None where values count as they are.

    Values in one cell of this width, computed in floating point, are within the tolerance: the error of a value of at
    most `cell_limit` is far less than the other half.
    """
    tolerance = column.column.tolerance
    if not tolerance or column.kind not in ("number", "timestamp"):
        return None
    return float(tolerance / 2)


def cell_limit(column: PairedColumn) -> float:
    """Return up to which absolute value cells are used; beyond, values count as they are."""
    width = cell_width(column)
    return 0.0 if width is None else width * 1e12


def unknown_column(ref: TableRef, name: str, known: Sequence[str]) -> InvalidComparison:
    """Return the error for a column that is not there, with those that are."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return InvalidComparison(f"{ref.name} has no column {printable(name)}{meant} (it has {', '.join(known)})")


def key_text(value: Value) -> str | None:
    """Return a canonical value as an engine reads it from text."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case bytes():
            return value.hex()
        case _:
            return str(value)
