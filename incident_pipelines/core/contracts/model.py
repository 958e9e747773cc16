"""What a contract promises about a dataset, in the terms the rest of the system works in."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

ColumnType = Literal["uuid", "text", "integer", "numeric", "boolean", "timestamp", "date"]

_SQL_TYPES: dict[ColumnType, str] = {
    "uuid": "uuid",
    "text": "text",
    "integer": "bigint",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "date": "date",
}


@dataclass(frozen=True)
class Reference:
    """The value must exist in that column of another dataset's raw table."""

    dataset: str
    column: str


@dataclass(frozen=True)
class Column:
    """One column of a dataset.

    Args:
        precision, scale: of a numeric: digits in all and after the point.
        max_length: of a text, in characters.
        unique: no two rows of the dataset share the value; absent values do not count.
        pii: personal data; masked wherever it is shown.
    """

    name: str
    type: ColumnType
    description: str = ""
    required: bool = False
    unique: bool = False
    allowed: tuple[str, ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    max_length: int | None = None
    precision: int = 12
    scale: int = 2
    reference: Reference | None = None
    pii: bool = False

    @property
    def sql_type(self) -> str:
        """PostgreSQL's name of the type."""
        return f"numeric({self.precision},{self.scale})" if self.type == "numeric" else _SQL_TYPES[self.type]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What every contract says.

    Args:
        primary_key: columns that identify a row in the published table.
        time_column: column that decides a row's window; None where the dataset is one window.
        correlation_id: column that ties rows of one business case together.
        max_quarantine_share: share (0 to 1) of a window's rows that one rule may refuse before the window is refused.
        freshness_minutes: how old the newest window may be.
        protected_share: share (0 to 1) of the published table that a statement may touch unless it is confirmed.
    """

    name: str
    version: str
    description: str
    owner: str
    consumers: tuple[str, ...]
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    time_column: str | None
    correlation_id: str | None
    max_quarantine_share: float
    freshness_minutes: int | None
    protected_share: float = 0.05

    def column(self, name: str) -> Column:
        """Return the column of that name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True)
class EventContract(Dataset):
    """A stream of events on one topic; each is one JSON object and ``event_id`` says which event it is.

    Args:
        schema_version: field that names the contract version an event was written under, if events carry one.
        recovery_sources: in order of preference.
        retention_days: floor for the topic's retention.
    """

    topic: str
    event_id: str
    event_type: str
    event_time: str
    schema_version: str | None
    recovery_sources: tuple[str, ...]
    retention_days: int | None


@dataclass(frozen=True)
class TableSource:
    """Rows are read from a table of a database named in the catalog; `updated_at` moves with every change."""

    source: str
    schema: str
    table: str
    updated_at: str


@dataclass(frozen=True)
class ChangeTopic:
    """Rows arrive as Debezium change envelopes (``op``, ``before``, ``after``) on a topic."""

    topic: str


@dataclass(frozen=True, kw_only=True)
class RowsContract(Dataset):
    """Rows of a table of somebody else's database; the newest image of each primary key counts.

    Args:
        recovery_sources: in order of preference.
    """

    origin: TableSource | ChangeTopic
    recovery_sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Anchor:
    """Which event puts a correlation id on its day: the one of this type in this event stream."""

    dataset: str
    event_type: str


@dataclass(frozen=True)
class QualityQuery:
    """A reviewed SELECT that counts what is wrong with a mart's staged window; 0 is right.

    Args:
        name: of the rule, by its truth.
        file: under sql/quality.
        severity: `error` refuses the window, `warn` only tells.
    """

    name: str
    file: str
    description: str
    severity: Literal["error", "warn"] = "error"


@dataclass(frozen=True, kw_only=True)
class MartContract(Dataset):
    """A daily table made by one SQL file from raw datasets.

    Args:
        inputs: raw datasets the SQL reads.
        reach_days: how many days later an event may still change the day's rows.
        anchor: what says which day an event of a later day changes; None: every day within reach.
        closes_monthly: the numbers of a month that is over are published for good: changing them needs a person.
        quality: what else a day has to fulfil, in SQL.
    """

    inputs: tuple[str, ...]
    reach_days: int
    anchor: Anchor | None
    closes_monthly: bool = False
    quality: tuple[QualityQuery, ...] = ()


Landed = EventContract | RowsContract
Contract = EventContract | RowsContract | MartContract
