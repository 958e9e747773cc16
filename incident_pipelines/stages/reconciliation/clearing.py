"""What has not cleared yet, for each stage of a flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from incident_pipelines.adapters.databases.reviewed_sql import read_item_totals
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.declaration import Clearing, ClearingStage
from incident_pipelines.stages.source_urls import source_url


@dataclass(frozen=True)
class StageBalance:
    """The balance of one stage in one currency; all of it is zero where everything has cleared.

    Args:
        currency: empty where the stage holds no money.
        items, money: that have not cleared.
        oldest: since when the longest waiting one does; None where none waits.
        overdue, overdue_money: those that wait longer than the stage allows.
    """

    flow: str
    stage: ClearingStage
    currency: str
    items: int
    money: Decimal
    oldest: datetime | None
    overdue: int
    overdue_money: Decimal

    def age_seconds(self, as_of: datetime) -> int:
        """Return how long the oldest item has been waiting; 0 where none waits."""
        return 0 if self.oldest is None else max(0, int((as_of - self.oldest).total_seconds()))


def clearing_balances(
    catalog: Catalog, environment: Mapping[str, str], flow: Clearing, as_of: datetime
) -> list[StageBalance]:
    """Return the balance of each stage, in order, one for each currency that has not cleared.

    Raises:
        SourceUnavailable: a source does not answer; says nothing about its balance.
    """
    balances: list[StageBalance] = []
    for stage in flow.stages:
        due = as_of - stage.clears_within
        url = source_url(catalog, environment, stage.source)
        rows = read_item_totals(url, stage.source, catalog.reconciliation_sql[stage.sql], {"due": due, "as_of": as_of})
        for row in rows:
            balances.append(
                StageBalance(
                    flow.name,
                    stage,
                    row["currency"],
                    row["items"],
                    Decimal(str(row["money"])),
                    _instant(row["oldest"]),
                    int(row["overdue"]),
                    Decimal(str(row["overdue_money"])),
                )
            )
        if not rows:
            balances.append(StageBalance(flow.name, stage, "", 0, Decimal(0), None, 0, Decimal(0)))
    return balances


def _instant(value: object) -> datetime | None:
    if value is None:
        return None
    instant = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
