"""What is shown of a reconciliation: its differences, their ages, its last run; personal data masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, RowMapping

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.differences import (
    AGE_NAMES,
    Mode,
    difference_ages,
    latest_run,
    list_differences,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.declaration import Reconciliation
from incident_pipelines.core.reconciliation.ledger_values import shown


@dataclass(frozen=True)
class ShownDifference:
    """A difference as a person sees it.

    Args:
        key: column → value.
        columns: column → value in the source, value in the target.
        at_stake: amount and currency; empty where nothing says.
        explanation: empty where nothing explains it.
    """

    difference_id: str
    kind: str
    key: Mapping[str, str]
    columns: Mapping[str, tuple[str, str]]
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None
    age: timedelta
    reopened: int
    at_stake: str
    explanation: str
    incident_id: str | None

    @property
    def values(self) -> list[str]:
        """Return what to show of the columns: both values, or the one of the side that has the row."""
        if self.kind == "mismatched":
            return [f"{name}: {source} | {target}" for name, (source, target) in self.columns.items()]
        side = 0 if self.kind == "missing" else 1
        return [f"{name}: {values[side]}" for name, values in self.columns.items()]


@dataclass(frozen=True)
class DifferenceFigures:
    """What is open of a reconciliation.

    Args:
        ages: kind and explanation → how many of each of `age_names`.
    """

    samples: Sequence[ShownDifference]
    ages: Mapping[tuple[str, str], Sequence[int]]
    age_names: Sequence[str]


def shown_differences(
    control: Engine, catalog: Catalog, declared: Reconciliation, *, only_open: bool, rows: int
) -> list[ShownDifference]:
    """Return differences, open and unexplained ones first, oldest first.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    personal = declared.personal_columns(catalog.personal_columns)
    with available("control database"), control.connect() as connection:
        found = list_differences(connection, declared.name, only_open=only_open, rows=rows)
    return [_shown(row, personal) for row in found]


def difference_figures(
    control: Engine, catalog: Catalog, declared: Reconciliation, as_of: datetime, *, samples: int
) -> DifferenceFigures:
    """Return the oldest open differences and the ages of all of them.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with available("control database"), control.connect() as connection:
        ages = difference_ages(connection, declared.name, as_of)
    shown_rows = shown_differences(control, catalog, declared, only_open=True, rows=samples)
    return DifferenceFigures(shown_rows, ages, AGE_NAMES)


def last_run(control: Engine, reconciliation: str, mode: Mode | None = None) -> dict[str, Any] | None:
    """Return what was written down of the last run; None if there was none.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with available("control database"), control.connect() as connection:
        run = latest_run(connection, reconciliation, mode)
    return None if run is None else {str(name): value for name, value in run.items()}


def _shown(row: RowMapping, personal: frozenset[str]) -> ShownDifference:
    def tell(name: str, value: Any) -> str:
        return shown(value, personal=name in personal)

    money = row["money_at_stake"]
    return ShownDifference(
        difference_id=row["difference_id"],
        kind=row["kind"],
        key={name: tell(name, value) for name, value in row["key"].items()},
        columns={
            name: (tell(name, both["source"]), tell(name, both["target"])) for name, both in row["columns"].items()
        },
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        resolved_at=row["resolved_at"],
        age=row["age"],
        reopened=row["reopened"],
        at_stake="" if money is None else f"{money:,} {row['currency'] or ''}".strip(),
        explanation=(row["explanation"] or "").replace("_", " "),
        incident_id=row["incident_id"],
    )
