"""Sums of the numbers that are reported from marts that close: which of them a recovery moves, and by how much."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from sqlalchemy import Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import MartContract
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.incidents.scope import Affected
from incident_pipelines.core.recovery.loss import Restated

MartSums = Mapping[str, Mapping[str, str]]
"""(dataset column segment) as one text → sum over the windows, as text."""

_SUMMED = ("numeric", "integer")


def mart_sums(warehouse: Engine, catalog: Catalog, windows: Sequence[Affected]) -> dict[str, dict[str, str]]:
    """Return the sums of numbers of marts that close, over some windows, by dataset, column and segment.

    Segments are the values of columns that the contract lists, such as currencies: money of two is never added up.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    found: dict[str, dict[str, str]] = {}
    with available("warehouse"), warehouse.connect() as connection:
        for name in dict.fromkeys(one.dataset for one in windows if one.dataset in catalog.marts):
            contract = catalog.marts[name].contract
            if not contract.closes_monthly:
                continue
            segments = [column.name for column in contract.columns if column.allowed and column.required]
            numbers = [column.name for column in contract.columns if column.type in _SUMMED]
            days = [one.window.start.date() for one in windows if one.dataset == name]
            totals = found.setdefault(name, {})
            for row in connection.execute(text(_statement(contract, segments, numbers)), {"days": days}):
                segment = ", ".join(str(value) for value in row[: len(segments)])
                for column, total in zip(("rows", *numbers), row[len(segments) :], strict=True):
                    totals[f"{column}\t{segment}"] = str(total)
    return found


def added(sums: Iterable[MartSums]) -> dict[str, dict[str, str]]:
    """Return sums over different windows as sums over all of them."""
    found: dict[str, dict[str, str]] = {}
    for one in sums:
        for dataset, totals in one.items():
            known = found.setdefault(dataset, {})
            for key, total in totals.items():
                known[key] = str(Decimal(known.get(key, "0")) + Decimal(total))
    return found


def moved(before: MartSums, after: MartSums) -> tuple[Restated, ...]:
    """Return the sums that are not what they were."""
    found: list[Restated] = []
    for dataset in dict.fromkeys((*before, *after)):
        old, new = before.get(dataset, {}), after.get(dataset, {})
        for key in dict.fromkeys((*old, *new)):
            was, now = old.get(key, "0"), new.get(key, "0")
            if Decimal(was) == Decimal(now):
                continue
            column, _, segment = key.partition("\t")
            rows = f"rows\t{segment}"
            added = int(Decimal(new.get(rows, "0")) - Decimal(old.get(rows, "0")))
            found.append(Restated(dataset=dataset, column=column, segment=segment, before=was, after=now, rows=added))
    return tuple(found)


def _statement(contract: MartContract, segments: Sequence[str], numbers: Sequence[str]) -> str:
    sums = "".join(f", coalesce(sum({quoted(name)}), 0)" for name in numbers)
    grouped = "".join(f"{quoted(name)}, " for name in segments)
    places = ", ".join(str(number) for number in range(1, len(segments) + 1))
    return (
        f"SELECT {grouped}count(*){sums} FROM {quoted('marts', contract.name)} "
        f"WHERE {quoted(str(contract.time_column))} = ANY (CAST(:days AS date[]))"
        + (f" GROUP BY {places} ORDER BY {places}" if segments else "")
    )
