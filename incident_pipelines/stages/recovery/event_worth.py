"""What events are worth, lost ones and those brought back, where a reconciliation says what a row is worth."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.ddl import PROVENANCE
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.incidents.scope import Worth
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE, RowFilter

LATELY = timedelta(days=7)


def recovered_money(warehouse: Engine, catalog: Catalog, incident_id: str) -> dict[str, dict[str, Decimal]]:
    """Return the worth of published rows that were made from what was appended for an incident, by dataset, currency.

    A row is worth what a declared reconciliation compares of it; datasets that none compares are left out.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    found: dict[str, dict[str, Decimal]] = {}
    with available("warehouse"), warehouse.connect() as connection:
        for dataset, amount, currency, filters in _valued(catalog):
            shown = quoted(currency) if currency else "''"
            conditions, values = _conditions(filters)
            statement = (
                f"SELECT coalesce({shown}::text, '') AS currency, sum({quoted(amount)}) AS amount "
                f"FROM {quoted('raw', dataset)} JOIN landing.origins o ON o.origin_id = {PROVENANCE[0]} "
                f"WHERE o.kind = 'recovery' AND o.note = :incident_id{conditions} GROUP BY 1 ORDER BY 1"
            )
            rows = connection.execute(text(statement), {"incident_id": incident_id, **values})
            worth = {row.currency: row.amount for row in rows if row.amount}
            if worth:
                found[dataset] = worth
    return found


def mean_worth(warehouse: Engine, catalog: Catalog, datasets: Collection[str], before: datetime) -> tuple[Worth, ...]:
    """Return what an event of some datasets is worth on average, by currency; datasets that nobody values are left out.

    The mean over all events that were published of the `LATELY` before an instant, those that are worth nothing among
    them.

    Args:
        before: aware.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    found: dict[tuple[str, str], Worth] = {}
    with available("warehouse"), warehouse.connect() as connection:
        for dataset, amount, currency, filters in _valued(catalog):
            time_column = catalog.landed[dataset].time_column
            if dataset not in datasets or time_column is None:
                continue
            shown = quoted(currency) if currency else "''"
            conditions, values = _conditions(filters)
            at = quoted(time_column)
            lately = f"FROM {quoted('raw', dataset)} WHERE {at} >= :since AND {at} < :before"
            statement = (
                f"SELECT coalesce({shown}::text, '') AS currency, "
                f"sum({quoted(amount)}) / (SELECT count(*) {lately}) AS per_event {lately}{conditions} "
                "GROUP BY 1 ORDER BY 1"
            )
            rows = connection.execute(text(statement), {"since": before - LATELY, "before": before, **values})
            for row in rows:
                if row.per_event:
                    found.setdefault((dataset, row.currency), Worth(dataset, row.currency, f"{row.per_event:.6f}"))
    return tuple(found.values())


def _valued(catalog: Catalog) -> Iterator[tuple[str, str, str | None, tuple[RowFilter, ...]]]:
    for declared in catalog.reconciliations.values():
        if declared.money is None:
            continue
        for side, amount in ((declared.source, declared.money.source), (declared.target, declared.money.target)):
            schema, _, table = (side.table or "").partition(".")
            if side.source == WAREHOUSE and schema == "raw" and table in catalog.landed and amount:
                yield table, amount, declared.money.currency, side.filters


def _conditions(filters: tuple[RowFilter, ...]) -> tuple[str, dict[str, list[str]]]:
    conditions = ""
    values: dict[str, list[str]] = {}
    for number, one in enumerate(filters):
        allowed = one.in_ if one.in_ is not None else one.not_in
        operator = "= ANY" if one.in_ is not None else "<> ALL"
        conditions += f" AND {quoted(one.column)}::text {operator} (CAST(:filter_{number} AS text[]))"
        values[f"filter_{number}"] = [str(value) for value in allowed or ()]
    return conditions, values
