"""Figures that a person looks at: how far landing is, how rules stand, what is known of a window."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from incident_pipelines.adapters.databases import figures
from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.publication import read_inputs
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.rules import RuleResult, Severity
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.landing.state import PartitionStatus
from incident_pipelines.stages.publication.publish import PublishedWindow


@dataclass(frozen=True)
class LandingFigures:
    """What has landed of one dataset.

    Args:
        rows: rows of the log, dead letters included.
        origins: incarnations, extracts and so on that rows came from.
        partitions: of its topic; none for a table that is extracted.
    """

    dataset: str
    rows: int
    dead_letters: int
    origins: int
    last_landed_at: datetime | None
    partitions: tuple[PartitionStatus, ...]

    @property
    def lag(self) -> int | None:
        """Lag of all partitions together; None if that of one is unknown, or there are none."""
        lags = [partition.lag for partition in self.partitions]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if known and len(known) == len(lags) else None


def landing_figures(
    warehouse: Engine, catalog: Catalog, partitions: Sequence[PartitionStatus]
) -> tuple[LandingFigures, ...]:
    """Return the figures of every landed dataset.

    Args:
        partitions: as `landing_status` gives them.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        totals = figures.landing_totals(connection)
    found: list[LandingFigures] = []
    for dataset in catalog.landed:
        total = totals.get(dataset)
        found.append(
            LandingFigures(
                dataset=dataset,
                rows=total["rows"] if total else 0,
                dead_letters=total["dead_letters"] if total else 0,
                origins=total["origins"] if total else 0,
                last_landed_at=total["last_landed_at"] if total else None,
                partitions=tuple(status for status in partitions if status.contract == dataset),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class RuleVerdict:
    """How one rule of a dataset stands: over the last build of every window.

    Args:
        worst_window: start of the window with the largest share (0 to 1) of unexpected rows; None if there are none.
    """

    rule: str
    severity: Severity
    windows: int
    windows_failed: int
    rows: int
    unexpected: int
    worst_window: datetime | None
    worst_share: float
    checked_at: datetime

    @property
    def passed(self) -> bool:
        """Whether it holds in every window."""
        return self.windows_failed == 0


def rule_verdicts(warehouse: Engine, dataset: str, rules: Collection[str]) -> tuple[RuleVerdict, ...]:
    """Return how rules of a dataset stand; a rule that no window has been checked for is left out.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        rows = figures.rule_verdicts(connection, dataset)
    return tuple(
        RuleVerdict(
            rule=row["rule"],
            severity=row["severity"],
            windows=row["windows"],
            windows_failed=row["windows_failed"],
            rows=row["rows"],
            unexpected=row["unexpected"],
            worst_window=row["worst_window"],
            worst_share=row["worst_share"],
            checked_at=row["checked_at"],
        )
        for row in rows
        if row["rule"] in rules
    )


def published_before(warehouse: Engine, dataset: str, window: TimeWindow) -> PublishedWindow:
    """Return what was written down of a window that is published.

    Raises:
        ValueError: it never was.
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        rows = figures.published_before(connection, dataset, window)
        spans = read_inputs(connection, dataset, window).spans
    if not rows:
        raise ValueError(f"{dataset} {window} was never published")
    stored = rows[0]
    return PublishedWindow(
        dataset=dataset,
        window=window,
        version=stored["version"],
        rows=stored["rows"],
        changed_rows=stored["changed_rows"],
        duplicates=stored["duplicates"],
        dead_letters=stored["dead_letters"],
        quarantined=stored["quarantined"],
        offsets=spans,
        results=tuple(
            RuleResult(
                rule=row["rule"],
                passed=row["passed"],
                rows=row["looked_at"],
                unexpected=row["unexpected"],
                share=row["unexpected"] / row["looked_at"] if row["looked_at"] else 0.0,
                max_share=row["max_share"],
                severity=row["severity"],
            )
            for row in rows
            if row["rule"] is not None
        ),
        seconds=stored["seconds"],
    )
