"""Reads what is shown about the landing log and the published windows; writes nothing."""

from sqlalchemy import Connection, RowMapping

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.windows import TimeWindow


def landing_totals(connection: Connection) -> dict[str, RowMapping]:
    """Return rows, dead_letters, origins and last_landed_at of each dataset that has landed anything."""
    return {row["contract"]: row for row in connection.execute(query("landing_totals")).mappings()}


def rule_verdicts(connection: Connection, dataset: str) -> list[RowMapping]:
    """Return each rule of a dataset over the last build of all its windows."""
    return list(connection.execute(query("rule_verdicts"), {"dataset": dataset}).mappings())


def published_before(connection: Connection, dataset: str, window: TimeWindow) -> list[RowMapping]:
    """Return what was written down of a window, one row for each rule; no row if it was never decided."""
    values = {"dataset": dataset, "window_start": window.start}
    return list(connection.execute(query("published_before"), values).mappings())
