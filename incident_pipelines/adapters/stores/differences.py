"""The ledger of differences and the runs that wrote it, in the control database."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, cast

from sqlalchemy import Connection, Engine, RowMapping

from incident_pipelines.adapters.databases.ownership import take_lock
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.errors import LedgerOwned
from incident_pipelines.core.reconciliation.comparison import Difference, Kind
from incident_pipelines.core.reconciliation.differences import Entry, Known, Stake, ledger_lock_key
from incident_pipelines.core.reconciliation.ledger_values import from_json, to_json, type_name
from incident_pipelines.core.windows import TimeWindow

Mode = Literal["hourly", "full"]
AGE_BOUNDS_SECONDS = (3_600.0, 21_600.0, 86_400.0, 604_800.0)
AGE_NAMES = ("under 1 h", "1 to 6 h", "6 to 24 h", "1 to 7 days", "over 7 days")


@dataclass(frozen=True)
class FoundDifference:
    """A difference that a run found, and what it is in the ledger from now on.

    Args:
        source_time, target_time: when the rows of both sides belong to; None for a side that does not say.
        in_scope: its row belongs to what the run was asked to look at.
    """

    difference_id: str
    difference: Difference
    entry: Entry
    newest_at: datetime | None
    source_time: datetime | None
    target_time: datetime | None
    stake: Stake | None
    in_scope: bool


@dataclass
class Totals:
    """What of a reconciliation is open.

    Args:
        in_scope: unexplained differences of rows the last run looked at for their own sake, by kind.
        money: of the unexplained ones, by currency; empty where there is none.
    """

    unexplained: int = 0
    in_flight: int = 0
    incident: int = 0
    in_scope: dict[str, int] = field(default_factory=dict[str, int])
    money: dict[str, Decimal] = field(default_factory=dict[str, Decimal])


def take_ledger(connection: Connection, control: Engine, reconciliation: str, owner: str, wait_seconds: float) -> None:
    """Become the one writer of a reconciliation's differences until the transaction ends.

    Args:
        owner: shown to whoever wants it meanwhile; the first 63 bytes count.
        wait_seconds: how long to wait for another writer; 0 does not wait.

    Raises:
        LedgerOwned: somebody else still is; the message names the owner.
    """
    key = ledger_lock_key(reconciliation)
    holder = take_lock(connection, control, query("take_ledger"), key, owner, wait_seconds)
    if holder is not None:
        raise LedgerOwned(f"{reconciliation} is being reconciled by {holder}")


def begin_run(
    connection: Connection,
    reconciliation: str,
    mode: Mode,
    as_of: datetime,
    window_start: datetime | None,
    window_end: datetime | None,
    owner: str,
) -> int:
    """Write down that a run has begun, seen by others once it commits, and return its id."""
    values = {
        "reconciliation": reconciliation,
        "mode": mode,
        "as_of": as_of,
        "window_start": window_start,
        "window_end": window_end,
        "owner": owner,
    }
    return int(connection.execute(query("begin_reconciliation"), values).scalar_one())


def finish_run(connection: Connection, run_id: int, figures: Mapping[str, Any]) -> None:
    """Write down what a run found."""
    money = {currency: str(amount) for currency, amount in figures["money_at_stake"].items()}
    connection.execute(
        query("finish_reconciliation"), {**figures, "run_id": run_id, "money_at_stake": json.dumps(money)}
    )


def known_differences(connection: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """Return what the ledger holds of differences, resolved ones included, by id."""
    return {
        row["difference_id"]: Known(
            row["first_seen"],
            row["opened_at"],
            row["last_seen"],
            row["resolved_at"],
            row["reopened"],
            row["explanation"],
            row["incident_id"],
            row["values_digest"],
        )
        for row in connection.execute(query("known_differences"), {"ids": list(ids)}).mappings()
    }


def open_keys(
    connection: Connection, reconciliation: str, columns: Sequence[str], *, except_run: int
) -> Iterator[tuple[Any, ...]]:
    """Yield the key of each open difference that a run has not seen, its values in the order of the key's columns."""
    values = {"reconciliation": reconciliation, "run_id": except_run}
    for key, types in connection.execute(query("open_difference_keys"), values):
        if set(key) == set(columns):  # the key was declared otherwise before: such a one is not found again
            yield tuple(from_json(key[name], types[name]) for name in columns)


def store_differences(
    connection: Connection, reconciliation: str, run_id: int, found: Iterable[FoundDifference]
) -> None:
    """Write differences that a run found: new ones, and what became of known ones."""
    rows = [_row(one) for one in found]
    if rows:
        values = {"reconciliation": reconciliation, "run_id": run_id, "rows": json.dumps(rows)}
        connection.execute(query("store_differences"), values)


def resolve_differences(connection: Connection, reconciliation: str, run_id: int, as_of: datetime) -> int:
    """Resolve every open difference that the run has not found, and return how many there were."""
    values = {"reconciliation": reconciliation, "run_id": run_id, "as_of": as_of}
    return connection.execute(query("resolve_differences"), values).rowcount


def explain_by_incident(
    connection: Connection,
    reconciliation: str,
    incident_id: str,
    windows: Sequence[TimeWindow],
    at_most: int,
    kinds: Sequence[Kind] = ("missing",),
) -> int:
    """Explain open differences by what an incident has stated to be lost; return how many it explains now.

    They stay explained until they are resolved. Where there are more than it accounts for it explains none, those
    neither that it explained before. Differences on their way, and those of other incidents, are left as they are.
    Only for the ledger's one writer (see `take_ledger`): a run at the same time would take it back.

    Args:
        windows: in which the rows lie, by their time on either side; by their last change where they have none.
        at_most: how many the loss accounts for, over all windows.
        kinds: that it accounts for.
    """
    values = {
        "reconciliation": reconciliation,
        "incident_id": incident_id,
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
        "at_most": at_most,
        "kinds": list(kinds),
    }
    return sum(connection.execute(query("explain_differences"), values).scalars())


def difference_totals(connection: Connection, reconciliation: str) -> Totals:
    """Return what is open."""
    totals = Totals()
    for row in connection.execute(query("difference_totals"), {"reconciliation": reconciliation}):
        match row.explanation:
            case "in_flight":
                totals.in_flight += row.differences
            case "incident":
                totals.incident += row.differences
            case _:
                totals.unexplained += row.differences
                totals.money[row.currency] = totals.money.get(row.currency, Decimal(0)) + row.money
                if row.in_scope:
                    totals.in_scope[row.kind] = totals.in_scope.get(row.kind, 0) + row.differences
    totals.money = {currency: money for currency, money in totals.money.items() if money or currency}
    return totals


def difference_ages(connection: Connection, reconciliation: str, as_of: datetime) -> dict[tuple[str, str], list[int]]:
    """Return, for kind and explanation (``unexplained`` for none), how many are open in each of `AGE_NAMES`."""
    ages: dict[tuple[str, str], list[int]] = {}
    values = {"reconciliation": reconciliation, "as_of": as_of, "bounds": list(AGE_BOUNDS_SECONDS)}
    for row in connection.execute(query("difference_ages"), values):
        ages.setdefault((row.kind, row.explanation), [0] * len(AGE_NAMES))[row.bucket] += row.differences
    return ages


def list_differences(connection: Connection, reconciliation: str, *, only_open: bool, rows: int) -> list[RowMapping]:
    """Return differences, open and unexplained ones first, oldest first."""
    values = {"reconciliation": reconciliation, "only_open": only_open, "rows": rows}
    return list(connection.execute(query("list_differences"), values).mappings())


def latest_run(connection: Connection, reconciliation: str, mode: Mode | None = None) -> RowMapping | None:
    """Return the last run that was committed; None if there is none."""
    values = {"reconciliation": reconciliation, "mode": mode}
    return connection.execute(query("latest_reconciliation"), values).mappings().first()


def raise_gap_signal(connection: Connection, signal: Mapping[str, Any]) -> int | None:
    """Write the signal of a gap, once while it lasts; return its id if it is new."""
    values = {**signal, "detail": json.dumps(signal["detail"])}
    return cast(int | None, connection.execute(query("raise_gap_signal"), values).scalar())


def clear_gap_signals(
    connection: Connection, kind: str, reconciliation: str, window_start: datetime, *, everything: bool
) -> int:
    """Note that a window agrees again, or that everything does; return how many signals that clears."""
    values = {
        "kind": kind,
        "dataset": reconciliation,
        "window_start": window_start,
        "everything": everything,
    }
    return connection.execute(query("clear_gap_signals"), values).rowcount


def _row(found: FoundDifference) -> dict[str, Any]:
    difference, entry = found.difference, found.entry
    return {
        "difference_id": found.difference_id,
        "kind": difference.kind,
        "key": {name: to_json(value) for name, value in difference.key.items()},
        "key_types": {name: type_name(value) for name, value in difference.key.items()},
        "occurrence": difference.occurrence,
        "columns": {
            name: {"source": to_json(source), "target": to_json(target)}
            for name, (source, target) in difference.columns.items()
        },
        "source": _values(difference.source),
        "target": _values(difference.target),
        "first_seen": entry.first_seen.isoformat(),
        "opened_at": entry.opened_at.isoformat(),
        "last_seen": entry.last_seen.isoformat(),
        "reopened": entry.reopened,
        "newest_at": _iso(found.newest_at),
        "source_time": _iso(found.source_time),
        "target_time": _iso(found.target_time),
        "explanation": entry.explanation,
        "incident_id": entry.incident_id,
        "money_at_stake": None if found.stake is None else str(found.stake.amount),
        "currency": (found.stake and found.stake.currency) or None,
        "values_digest": entry.values,
        "in_scope": found.in_scope,
    }


def _values(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: to_json(value) for name, value in row.items()}


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
