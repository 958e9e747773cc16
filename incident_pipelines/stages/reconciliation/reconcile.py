"""Reconciles two tables: what differs, since when, what it is worth, and what became of what differed before."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.comparison.table import Filter, TableRef
from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.differences import (
    FoundDifference,
    Mode,
    begin_run,
    clear_gap_signals,
    difference_totals,
    explain_by_incident,
    finish_run,
    known_differences,
    list_differences,
    open_keys,
    raise_gap_signal,
    resolve_differences,
    store_differences,
    take_ledger,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.comparison import Comparison, Counts, Difference
from incident_pipelines.core.reconciliation.declaration import Reconciliation, Side, Verdict, judged
from incident_pipelines.core.reconciliation.differences import (
    difference_id,
    gap_rate,
    newest,
    seen,
    stake,
    times_of,
    values_digest,
)
from incident_pipelines.core.reconciliation.gaps import GAP_SIGNAL, empty_side, gap_signal, statement_of
from incident_pipelines.core.reconciliation.ledger_values import shown
from incident_pipelines.core.reconciliation.losses import StatedLoss
from incident_pipelines.core.reconciliation.plan import Plan, plan_of
from incident_pipelines.core.reconciliation.scope import Everything, Keys, Scope, TimeRange
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.reconciliation.compare import Progress, compare
from incident_pipelines.stages.reconciliation.join_rate import MeasuredJoinRate, measure_join_rate
from incident_pipelines.stages.source_urls import source_url

KEYS_AT_A_TIME = 1_000
ROWS_AT_A_TIME = 1_000
SAMPLES = 10
ROWS_WORTH_A_REPORT = 100_000
STATEMENT_TIMEOUT_SECONDS = 900.0

Report = Callable[[str], None]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Reconciled:
    """What a run found.

    Args:
        window: that it was asked to look at.
        counts: rows of the window on both sides, and the differences in it that nothing explains.
        opened, reopened, resolved: what the run did to the ledger.
        explained: differences that the losses given to it account for.
        open_unexplained, open_in_flight, open_incident: the whole ledger after it.
        money: at stake in what is open and unexplained, by currency.
        statement: all of it for a person.
        seconds: from waiting for the ledger to the commit.
        signal_id: of the signal that the run raised, if it is a new one.
    """

    run_id: int
    declared: Reconciliation
    mode: Mode
    as_of: datetime
    window: TimeWindow
    counts: Counts
    gap_rate: Decimal
    opened: int
    reopened: int
    resolved: int
    explained: int
    open_unexplained: int
    open_in_flight: int
    open_incident: int
    money: Mapping[str, Decimal]
    join_rate: MeasuredJoinRate | None
    verdict: Verdict
    statement: str
    seconds: float
    signal_id: int | None

    @property
    def ledger(self) -> dict[str, int]:
        """What the run did to the ledger, and what is open in it, by name."""
        return {
            "opened": self.opened,
            "reopened": self.reopened,
            "resolved": self.resolved,
            "open_unexplained": self.open_unexplained,
            "open_in_flight": self.open_in_flight,
            "open_incident": self.open_incident,
        }


def reconcile(
    catalog: Catalog,
    control: Engine,
    name: str,
    hour: TimeWindow | None,
    *,
    as_of: datetime,
    owner: str,
    environment: Mapping[str, str] = os.environ,
    losses: Sequence[StatedLoss] = (),
    wait_seconds: float = 60,
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
    report: Report = lambda text: None,
) -> Reconciled:
    """Compare both sides and bring the ledger up to date, in one transaction of the control database.

    An hour: the rows whose time lies in it on either side, rows changed in it, and every difference that is open.
    Without one: everything.

    Args:
        control: engine of the control database.
        hour: what to look at; None for everything.
        as_of: the instant that ages are counted at; aware.
        owner: shown to others that want to reconcile the same.
        environment: variables with the addresses of the sources.
        losses: that account for differences which would have nothing to explain them.
        wait_seconds: how long to wait for another run of the same reconciliation.
        timeout_seconds: for each statement on a source.
        report: told how far a long run is.

    Raises:
        ValueError: there is no such reconciliation, or it has no time column for an hour.
        LedgerOwned: another run is at it; the message names its owner.
        SourceUnavailable: a database does not answer; nothing was changed, and it says nothing about the data.
    """
    declared = declared_reconciliation(catalog, name)
    if hour is not None and declared.time is None:
        raise ValueError(f"{name} declares no time column, so there is no hour of it; reconcile it in full")
    started = time.monotonic()
    source, target = (table_of(catalog, environment, side) for side in (declared.source, declared.target))
    with available("control database"), control.connect() as connection, connection.begin() as transaction:
        take_ledger(connection, control, name, owner, wait_seconds)
        join_rate = measure_join_rate(catalog, environment, declared.join_rate, as_of) if declared.join_rate else None
        run = _Run(catalog, declared, source, target, connection, as_of, hour, owner, timeout_seconds, report, losses)
        reconciled = run.bring_up_to_date(join_rate, started)
        failpoint("reconcile.before_commit")
        transaction.commit()
        failpoint("reconcile.after_commit")
    return reconciled


def declared_reconciliation(catalog: Catalog, name: str) -> Reconciliation:
    """Return a reconciliation by name; ValueError if there is none."""
    if name not in catalog.reconciliations:
        raise ValueError(f"no reconciliation {name!r}; one of {', '.join(catalog.reconciliations) or 'none'}")
    return catalog.reconciliations[name]


def table_of(catalog: Catalog, environment: Mapping[str, str], side: Side) -> TableRef:
    """Return a side as the engine reads it.

    Raises:
        SourceUnavailable: the address of its source is not known.
    """
    return TableRef(
        url=source_url(catalog, environment, side.source),
        table=side.table,
        query=None if side.sql is None else catalog.reconciliation_sql[side.sql],
        filters=tuple(
            Filter(one.column, "not_in" if one.in_ is None else "in", one.in_ or one.not_in or ())
            for one in side.filters
        ),
    )


@dataclass
class _Run:
    """One run within its transaction."""

    catalog: Catalog
    declared: Reconciliation
    source: TableRef
    target: TableRef
    connection: Connection
    as_of: datetime
    hour: TimeWindow | None
    owner: str
    timeout_seconds: float
    report: Report
    losses: Sequence[StatedLoss] = ()
    changes: dict[str, int] = field(default_factory=dict[str, int])

    def bring_up_to_date(self, join_rate: MeasuredJoinRate | None, started: float) -> Reconciled:
        declared, connection = self.declared, self.connection
        mode: Mode = "full" if self.hour is None else "hourly"
        window = self.hour or TimeWindow(min(self.catalog.start, self.as_of - declared.grace), self.as_of)
        run_id = begin_run(connection, declared.name, mode, self.as_of, window.start, window.end, self.owner)
        plan = plan_of(declared)
        if self.hour is None:
            looked_at = self._compare(plan, plan.comparison, Everything(), run_id, in_scope=True)
        else:
            looked_at = self._hour(plan, run_id, self.hour)
        failpoint("reconcile.stored")
        resolved = resolve_differences(connection, declared.name, run_id, self.as_of)
        explained = sum(
            explain_by_incident(connection, declared.name, one.incident_id, [one.window], one.events, one.kinds)
            for one in self.losses
        )
        totals = difference_totals(connection, declared.name)
        unexplained = {kind: totals.in_scope.get(kind, 0) for kind in ("missing", "unexpected", "mismatched")}
        counts = Counts(looked_at.source, looked_at.target, **unexplained)
        rate = gap_rate(sum(unexplained.values()), counts.source, counts.target)
        empty = empty_side(declared, counts)
        said: Verdict = "error" if empty else judged(declared.thresholds.gap_rate, rate, rising=True)
        statement = statement_of(unexplained, rate, counts, totals.in_flight, totals.money, empty)
        seconds = time.monotonic() - started
        figures: dict[str, Any] = {
            "source_rows": counts.source,
            "target_rows": counts.target,
            **unexplained,
            "gap_rate": rate,
            "opened": self.changes.get("new", 0),
            "reopened": self.changes.get("reopened", 0),
            "resolved": resolved,
            "open_unexplained": totals.unexplained,
            "open_in_flight": totals.in_flight,
            "open_incident": totals.incident,
            "money_at_stake": totals.money,
        }
        finish_run(
            connection,
            run_id,
            {
                **figures,
                "joined": join_rate and join_rate.joined,
                "joinable": join_rate and join_rate.total,
                "verdict": said,
                "statement": statement,
                "seconds": seconds,
            },
        )
        signal_id = None if said == "ok" else self._signal(said, window, statement, figures)
        if said == "ok":
            agrees = totals.unexplained == 0 or mode == "full"
            clear_gap_signals(connection, GAP_SIGNAL, declared.name, window.start, everything=agrees)
        return Reconciled(
            run_id=run_id,
            declared=declared,
            mode=mode,
            as_of=self.as_of,
            window=window,
            counts=counts,
            gap_rate=rate,
            opened=figures["opened"],
            reopened=figures["reopened"],
            resolved=resolved,
            explained=explained,
            open_unexplained=totals.unexplained,
            open_in_flight=totals.in_flight,
            open_incident=totals.incident,
            money=totals.money,
            join_rate=join_rate,
            verdict=said,
            statement=statement,
            seconds=seconds,
            signal_id=signal_id,
        )

    def _hour(self, plan: Plan, run_id: int, hour: TimeWindow) -> Counts:
        """Compare the rows of the hour, those changed in it, and again whatever is still open of other hours."""
        hours = TimeRange(hour.start - self.declared.hourly.lookback, hour.end)
        looked_at = self._compare(plan, plan.comparison, hours, run_id, in_scope=True)
        if plan.changed is not None:
            changed = self._compare(plan, plan.changed, hours, run_id, in_scope=True)
            looked_at = Counts(max(looked_at.source, changed.source), max(looked_at.target, changed.target))
        names = tuple(column.name for column in plan.comparison.key)
        still_open = open_keys(self.connection, self.declared.name, names, except_run=run_id)
        for keys in _in_parts(still_open, KEYS_AT_A_TIME):
            self._compare(plan, plan.comparison, Keys(tuple(keys)), run_id, in_scope=False)
        return looked_at

    def _compare(self, plan: Plan, comparison: Comparison, scope: Scope, run_id: int, *, in_scope: bool) -> Counts:
        """Compare a scope and write what differs in it to the ledger."""
        found = compare(
            self.source,
            self.target,
            comparison,
            scope,
            progress=self._progressed,
            statement_timeout_seconds=self.timeout_seconds,
        )
        for part in _in_parts(found, ROWS_AT_A_TIME):
            self._store(plan, part, run_id, in_scope)
        return found.counts

    def _store(self, plan: Plan, found: list[Difference], run_id: int, in_scope: bool) -> None:
        name = self.declared.name
        by_id = {difference_id(name, difference): difference for difference in found}
        known = known_differences(self.connection, list(by_id))
        stored: list[FoundDifference] = []
        time = plan.comparison.time and plan.comparison.time.name
        for identity, difference in by_id.items():
            newest_at = newest(difference, plan.instants)
            source_time, target_time = times_of(difference, time)
            entry = seen(known.get(identity), values_digest(difference), newest_at, self.as_of, self.declared.grace)
            self.changes[entry.change] = self.changes.get(entry.change, 0) + 1
            stored.append(
                FoundDifference(
                    difference_id=identity,
                    difference=difference,
                    entry=entry,
                    newest_at=newest_at,
                    source_time=source_time,
                    target_time=target_time,
                    stake=stake(difference, plan.amounts, plan.currencies),
                    in_scope=in_scope,
                )
            )
        store_differences(self.connection, name, run_id, stored)

    def _progressed(self, progress: Progress) -> None:
        if progress.rows >= ROWS_WORTH_A_REPORT:
            rows = f" {progress.done:,} of" if progress.done else ""
            self.report(f"{self.declared.name}: {progress.phase}{rows} about {progress.rows:,} rows")

    def _signal(self, said: Verdict, window: TimeWindow, statement: str, figures: Mapping[str, Any]) -> int | None:
        told = {
            **figures,
            "gap_rate": float(figures["gap_rate"]),
            "money_at_stake": {currency: str(money) for currency, money in figures["money_at_stake"].items()},
        }
        signal = gap_signal(self.declared, said, window, self.as_of, statement, told, self._samples())
        return raise_gap_signal(self.connection, signal)

    def _samples(self) -> list[dict[str, Any]]:
        personal = self.declared.personal_columns(self.catalog.personal_columns)
        rows = list_differences(self.connection, self.declared.name, only_open=True, rows=SAMPLES)
        return [
            {
                "difference_id": row["difference_id"],
                "kind": row["kind"],
                "key": {name: shown(value, personal=name in personal) for name, value in row["key"].items()},
                "columns": sorted(row["columns"]),
            }
            for row in rows
            if row["explanation"] is None
        ]


def _in_parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
