"""Measures the share of rows that found their partner in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.declaration import JoinRate, Verdict
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.source_urls import source_url


@dataclass(frozen=True)
class MeasuredJoinRate:
    """What was measured.

    Args:
        joined: rows that found their partner.
        total: rows of the window.
    """

    rule: JoinRate
    window: TimeWindow
    joined: int
    total: int

    @property
    def rate(self) -> Decimal | None:
        """Return the share from 0 to 1; None where there was no row."""
        return Decimal(self.joined) / Decimal(self.total) if self.total else None

    @property
    def verdict(self) -> Verdict:
        """Return what the rule's bounds say."""
        return self.rule.verdict(self.joined, self.total)

    @property
    def statement(self) -> str:
        """Return one sentence for a person."""
        if self.rate is None:
            return f"There was nothing to join in {self.window}."
        return f"{self.joined} of {self.total} rows ({self.rate:.3%}) found their partner in {self.window}."


def measure_join_rate(
    catalog: Catalog, environment: Mapping[str, str], rule: JoinRate, as_of: datetime
) -> MeasuredJoinRate:
    """Measure a join rate over its window, which ends long enough before an instant for every row to be settled.

    Raises:
        SourceUnavailable: the source does not answer; says nothing about the rate.
    """
    end = as_of - rule.settled_after
    window = TimeWindow(end - rule.window, end)
    values = {"window_start": window.start, "window_end": window.end}
    url = source_url(catalog, environment, rule.source)
    row = read_rows(url, rule.source, catalog.reconciliation_sql[rule.sql], values)[0]
    return MeasuredJoinRate(rule, window, int(row["joined"] or 0), int(row["total"] or 0))
