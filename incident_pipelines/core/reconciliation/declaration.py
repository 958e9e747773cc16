"""What is reconciled with what: the model of ``reconciliations/*.yaml`` and ``clearing/*.yaml``."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from incident_pipelines.core.declared import Declared, Duration, FileName, Identifier, parse_declared
from incident_pipelines.core.documents import Document, Path

WAREHOUSE = "warehouse"
"""Source that every catalog has beside those it names: the warehouse itself."""

Verdict = Literal["ok", "warn", "error"]

Scalar = str | bool | int | Decimal
"""A value that a filter compares with."""


def _named(value: object) -> object:
    """A name alone stands for a mapping with that name."""
    return {"name": value} if isinstance(value, str) else value


def _on_both_sides(value: object) -> object:
    """A name alone stands for that column on both sides."""
    return {"source": value, "target": value} if isinstance(value, str) else value


def _as_scalar(value: object) -> object:
    if isinstance(value, float):
        return Decimal(str(value))
    if value is None or not isinstance(value, str | bool | int):
        raise ValueError("a text, a number or a boolean is expected")
    return value


TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$")]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Share = Annotated[Decimal, Field(ge=0, le=1)]


class RowFilter(Declared):
    """Which rows take part, by the values of one column; exactly one of `in` and `not_in`."""

    column: ColumnName
    in_: tuple[Annotated[Scalar, BeforeValidator(_as_scalar)], ...] | None = Field(None, alias="in", min_length=1)
    not_in: tuple[Annotated[Scalar, BeforeValidator(_as_scalar)], ...] | None = Field(None, min_length=1)


class Side(Declared):
    """One side of a comparison: a table of a source, or a reviewed SELECT in ``sql/reconciliation/``."""

    source: Identifier
    table: TableName | None = None
    sql: FileName | None = None
    filters: tuple[RowFilter, ...] = ()


class KeyColumn(Declared):
    """A column of the key, where it is called differently on a side with the names there."""

    name: ColumnName
    source: ColumnName | None = None
    target: ColumnName | None = None
    pii: bool = False

    @property
    def source_name(self) -> str:
        """Return the column's name in the source."""
        return self.source or self.name

    @property
    def target_name(self) -> str:
        """Return the column's name in the target."""
        return self.target or self.name


class ValueColumn(KeyColumn):
    """A compared column.

    Args:
        tolerance: absolute, in the column's unit; differences up to it are none.
        ignore_case: whether texts that differ in case alone are equal.
    """

    tolerance: Annotated[Decimal, Field(ge=0)] | None = None
    ignore_case: bool = False


class Instants(Declared):
    """A timestamp column of each side; only one of them where the other side has none."""

    source: ColumnName | None = None
    target: ColumnName | None = None


class Money(Declared):
    """What a differing row is worth: names of columns that a side has, and of the one with its currency."""

    source: ColumnName | None = None
    target: ColumnName | None = None
    currency: ColumnName | None = None


class Bounds(Declared):
    """Beyond `warn` a check warns, beyond `error` it fails."""

    warn: Share | None = None
    error: Share | None = None


class Thresholds(Declared):
    """Bounds of the gap rate: unexplained differences as a share of the rows looked at (SPEC §4: 0.2 %)."""

    gap_rate: Bounds = Bounds(warn=Decimal(0), error=Decimal("0.002"))


class Hourly(Declared):
    """When each hour is looked at: at this minute of the hour, once its rows are older than the grace.

    Args:
        lookback: how far before its hour a run looks as well, for rows that come late and have no changed-at column.
    """

    minute: Annotated[int, Field(ge=0, le=59)] = 20
    lookback: Duration = timedelta(0)


class Nightly(Declared):
    """When everything is looked at, HH:MM in UTC."""

    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "02:40"


class JoinRate(Declared):
    """A share that must not fall: one SELECT that returns ``joined`` and ``total`` for :window_start, :window_end.

    Args:
        window: how much of the past is measured.
        settled_after: how long a row has to find its partner; the window ends this long ago.
        minimum: shares beyond which the check warns or fails (SPEC §4: 99.8 %).
    """

    name: Identifier
    description: str = ""
    source: Identifier
    sql: FileName
    window: Duration = timedelta(hours=1)
    settled_after: Duration = timedelta(minutes=5)
    minimum: Bounds = Bounds(error=Decimal("0.998"))

    def verdict(self, joined: int, total: int) -> Verdict:
        """Return what a share means; nothing to join is no failure."""
        return judged(self.minimum, Decimal(joined) / Decimal(total), rising=False) if total else "ok"


class Reconciliation(Declared):
    """Two tables that have to agree.

    Args:
        key: columns that identify a row on both sides.
        columns: what is compared besides the key.
        time: columns that say to which hour a row belongs; without it there is no hourly run.
        changed: columns that move with every change of a row.
        grace: a difference in a row that is younger is in flight.
        money: what a differing row is worth.
    """

    name: Identifier
    description: str = ""
    owner: Annotated[str, Field(min_length=1)]
    source: Side
    target: Side
    key: tuple[Annotated[KeyColumn, BeforeValidator(_named)], ...] = Field(min_length=1)
    columns: tuple[Annotated[ValueColumn, BeforeValidator(_named)], ...] = ()
    time: Annotated[Instants, BeforeValidator(_on_both_sides)] | None = None
    changed: Annotated[Instants, BeforeValidator(_on_both_sides)] | None = None
    grace: Duration = timedelta(minutes=10)
    money: Annotated[Money, BeforeValidator(_on_both_sides)] | None = None
    thresholds: Thresholds = Thresholds()
    hourly: Hourly = Hourly()
    nightly: Nightly = Nightly()
    join_rate: JoinRate | None = None

    def personal_columns(self, personal: frozenset[str]) -> frozenset[str]:
        """Return the names, as differences show them, of columns that hold personal data.

        Args:
            personal: names of columns that a contract marks.
        """
        return frozenset(
            column.name
            for column in (*self.key, *self.columns)
            if column.pii or personal & {column.name, column.source_name, column.target_name}
        )


class ClearingStage(Declared):
    """One stage of a flow: a SELECT of ``item, since, amount, currency`` for each item that has not cleared yet.

    Args:
        clears_within: an item that is older is overdue.
    """

    name: Identifier
    description: str = ""
    source: Identifier
    sql: FileName
    clears_within: Duration


class Clearing(Declared):
    """A flow whose stages must each come to a balance of zero, in the order that its items take."""

    name: Identifier
    description: str = ""
    owner: Annotated[str, Field(min_length=1)]
    stages: tuple[ClearingStage, ...] = Field(min_length=1)


def parse_reconciliation(name: str, text: str) -> tuple[Reconciliation, Document]:
    """Parse one reconciliation.

    Args:
        name: file name for messages.
        text: YAML.

    Returns:
        It, and the document that knows the lines.

    Raises:
        InvalidDocument: it does not say what it has to; the message names file and line.
    """
    declared, document = parse_declared(Reconciliation, name, text)
    for side, place in ((declared.source, "source"), (declared.target, "target")):
        if (side.table is None) == (side.sql is None):
            raise document.error((place,), "exactly one of table and sql is expected")
        for index, one in enumerate(side.filters):
            if (one.in_ is None) == (one.not_in is None):
                raise document.error((place, "filters", index), "exactly one of in and not_in is expected")
    seen: set[str] = set()
    for place, columns in (("key", declared.key), ("columns", declared.columns)):
        for index, column in enumerate(columns):
            if column.name in seen:
                raise document.error((place, index), f"column {column.name!r} is declared twice")
            seen.add(column.name)
    if declared.time and not (declared.time.source and declared.time.target):
        raise document.error(("time",), "a column of each side is expected")
    for place, instants in (("changed", declared.changed), ("money", declared.money)):
        if instants and not (instants.source or instants.target):
            raise document.error((place,), "a column of at least one side is expected")
    _check_bounds(document, ("thresholds", "gap_rate"), declared.thresholds.gap_rate, rising=True)
    if declared.join_rate:
        _check_bounds(document, ("join_rate", "minimum"), declared.join_rate.minimum, rising=False)
    return declared, document


def parse_clearing(name: str, text: str) -> tuple[Clearing, Document]:
    """Parse the clearing of one flow; arguments and errors as of `parse_reconciliation`."""
    declared, document = parse_declared(Clearing, name, text)
    names: set[str] = set()
    for index, stage in enumerate(declared.stages):
        if stage.name in names:
            raise document.error(("stages", index, "name"), f"stage {stage.name!r} is declared twice")
        names.add(stage.name)
    return declared, document


def _check_bounds(document: Document, path: Path, bounds: Bounds, *, rising: bool) -> None:
    if bounds.warn is None and bounds.error is None:
        raise document.error(path, "at least one of warn and error is expected")
    if bounds.warn is None or bounds.error is None:
        return
    if bounds.warn > bounds.error if rising else bounds.warn < bounds.error:
        raise document.error((*path, "warn"), f"warns at {bounds.warn}, after the error at {bounds.error}")


def judged(bounds: Bounds, value: Decimal, *, rising: bool) -> Verdict:
    """Return what a value means.

    Args:
        rising: whether more is worse.
    """

    def beyond(bound: Decimal | None) -> bool:
        return bound is not None and (value > bound if rising else value < bound)

    return "error" if beyond(bounds.error) else "warn" if beyond(bounds.warn) else "ok"
