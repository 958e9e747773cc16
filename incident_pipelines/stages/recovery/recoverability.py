"""The recoverability map: which source could replay which day today, and what would be gone without the landing log."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.recovery_sources import recovery_sources
from incident_pipelines.adapters.recovery_sources.control_totals import declared_events
from incident_pipelines.adapters.recovery_sources.source import RecoverySource
from incident_pipelines.adapters.stores.signals import (
    clear_signal,
    open_signal_keys,
    raise_window_signal,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import EventContract, Landed, RowsContract
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.core.recovery.coverage import (
    AUDIT_LOG,
    DATABASE_EXTRACT,
    KAFKA,
    LANDING_LOG,
    SETTLED_AFTER,
    Coverage,
    Recoverability,
    judged,
    unusable,
)
from incident_pipelines.core.recovery.declaration import recovery_sources_of
from incident_pipelines.core.recovery.findings import KINDS, find
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import grade
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.stages.monitoring.monitor import LEVELS

LOGGER = logging.getLogger(__name__)

LEAST_DAYS = 14

Report = Callable[[str], None]


@dataclass(frozen=True)
class RecoverabilityMap:
    """What can be replayed, as of one moment.

    Args:
        days: by dataset in the catalog's order, then by day.
        notes: what could not be asked.
    """

    as_of: datetime
    days: tuple[Recoverability, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RaisedSignals:
    """What a map did to the signals: ids."""

    raised: tuple[int, ...]
    cleared: tuple[int, ...]


def recoverability_map(
    catalog: Catalog,
    environment: Mapping[str, str],
    now: datetime,
    days: int | None = None,
    dataset: str | None = None,
    report: Report = lambda _: None,
) -> RecoverabilityMap:
    """Ask every source of every dataset what it can still replay; a source that is down is unknown, and never empty.

    Args:
        environment: WAREHOUSE_URL, KAFKA_BOOTSTRAP_SERVERS and the variables that the catalog names.
        now: aware.
        days: how many, today included, none before the catalog's start; if absent, as `days_of`.
        dataset: only this one.
        report: told of each step: some take minutes.

    Raises:
        IncidentPipelinesError: no landed dataset is called so.
    """
    if dataset is not None and dataset not in catalog.landed:
        raise IncidentPipelinesError(f"{dataset!r} is no landed dataset; one of {', '.join(catalog.landed)}")
    asked = [contract for name, contract in catalog.landed.items() if dataset in (None, name)]
    sources, shown = recovery_sources(catalog, environment), days or days_of(catalog)
    found: list[Recoverability] = []
    notes: list[str] = []
    for contract in asked:
        windows = [catalog.whole] if contract.time_column is None else _days(catalog.start, now, shown)
        found += recoverability(catalog, environment, contract, windows, now, sources, notes, report)
    return RecoverabilityMap(now, tuple(found), tuple(notes))


def recoverability(
    catalog: Catalog,
    environment: Mapping[str, str],
    contract: Landed,
    windows: Sequence[TimeWindow],
    now: datetime,
    sources: Mapping[str, RecoverySource],
    notes: list[str],
    report: Report = lambda _: None,
) -> list[Recoverability]:
    """Return what can be replayed of windows of one dataset.

    Args:
        windows: in order, none overlapping another.
        notes: receives what could not be asked.
        others: as of `recoverability_map`.
    """
    names = recovery_sources_of(contract)
    by_source: dict[str, list[Coverage]] = {}
    # The log last: what arrives meanwhile is then in it as well, and not missing from it.
    for name in sorted(names, key=lambda name: name == LANDING_LOG):
        source = sources.get(name)
        if source is None:
            reason = f"no recovery source is called so; one of {', '.join(sources)}"
            by_source[name] = unusable(name, contract.name, windows, reason)
            continue
        report(f"{contract.name}: asking {name} about {len(windows)} windows")
        by_source[name] = source.coverage(contract.name, windows)
    try:
        totals = declared_events(catalog, environment, contract.name, windows)
    except SourceUnavailable as error:
        notes.append(f"{contract.name}: {error}; nothing can be proved complete")
        totals = [None] * len(windows)
    found: list[Recoverability] = []
    for number, (window, declared) in enumerate(zip(windows, totals, strict=True)):
        settled = window.end + SETTLED_AFTER <= now
        coverages = tuple(judged(by_source[name][number], declared, settled=settled) for name in names)
        found.append(Recoverability(contract.name, window, settled, declared, coverages))
    return found


def watch_recoverability(catalog: Catalog, control: Engine, found: RecoverabilityMap) -> RaisedSignals:
    """Raise what a map shows to be wrong, each finding once while it lasts, and clear what is over.

    What a source that is down leaves open stays as it is.

    Args:
        found: of all the days of `days_of`: what it does not show is over.

    Raises:
        SourceUnavailable: the control database does not answer; nothing was changed.
    """
    findings = find(found.days, promises_of(catalog), found.as_of)
    shown = {day.dataset for day in found.days}
    raised: list[int] = []
    cleared: list[int] = []
    with available("control database"), control.begin() as connection:
        for kind in KINDS:
            still = {str(fact.detail["signal_key"]) for fact in findings.found if fact.kind == kind}
            for key, (signal_id, dataset) in open_signal_keys(connection, kind).items():
                if dataset in shown and key not in still and (kind, key) not in findings.undecided:
                    clear_signal(connection, signal_id)
                    cleared.append(signal_id)
        for fact in findings.found:
            grading, summary = grade(fact.kind), summarize(fact)
            signal_id = raise_window_signal(connection, fact, grading, summary)
            if signal_id is not None:
                raised.append(signal_id)
                LOGGER.log(
                    LEVELS[grading.severity],
                    "signal",
                    extra=fields(
                        severity=grading.severity,
                        signal_id=signal_id,
                        kind=fact.kind,
                        dataset=fact.dataset,
                        summary=summary,
                    ),
                )
    return RaisedSignals(tuple(raised), tuple(cleared))


def days_of(catalog: Catalog) -> int:
    """Return how many days a map has to show: until whoever keeps them for a time has let go of the last of them."""
    limited = [promise for promise in promises_of(catalog).values() if promise is not None]
    return max(LEAST_DAYS, max(limited, default=timedelta()).days + 2)


def promises_of(catalog: Catalog) -> dict[tuple[str, str], timedelta | None]:
    """Return for how long each source is said to keep the events of each dataset; None: for good."""
    promises: dict[tuple[str, str], timedelta | None] = {}
    for name, contract in catalog.landed.items():
        recovery = catalog.recoveries.get(name)
        if isinstance(contract, EventContract) and contract.retention_days is not None:
            promises[name, KAFKA] = timedelta(days=contract.retention_days)
        if isinstance(contract, RowsContract):
            # A table need not keep rows that were landed once: whoever owns it may delete them.
            promises[name, DATABASE_EXTRACT] = timedelta()
        if recovery and recovery.database_extract:
            promises[name, DATABASE_EXTRACT] = recovery.database_extract.kept
        if recovery and recovery.audit_log:
            promises[name, AUDIT_LOG] = recovery.audit_log.kept
    return promises


def _days(start: datetime, now: datetime, days: int) -> list[TimeWindow]:
    today = TimeWindow.day_of(now)
    first = max(today.start - (days - 1) * DAY, TimeWindow.day_of(start).start)
    return list(TimeWindow(min(first, today.start), today.end).split(DAY))
