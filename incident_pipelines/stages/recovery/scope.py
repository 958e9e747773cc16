"""Scope: which events are missing, exactly, and which windows an incident has touched. It only reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.recovery_sources.control_totals import (
    declared_by_segment,
    declared_events,
    segment_columns,
)
from incident_pipelines.adapters.recovery_sources.landing_log import LandingLogSource
from incident_pipelines.adapters.stores.incidents import read_incident, signals_of
from incident_pipelines.adapters.stores.incidents_findings import stated_losses
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import EventContract, Landed
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.incidents.causes import REPORTED
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.reported import (
    began_before,
    is_named,
    named_windows,
    what_is_wanting,
)
from incident_pipelines.core.incidents.scope import (
    Affected,
    CountedTotals,
    KeyedRows,
    LostOffsets,
    MissingSegment,
    Scope,
    Strategy,
    Suspect,
    downstream_of,
    landing_writes_gaps,
    strategy_of,
)
from incident_pipelines.core.recovery.coverage import SETTLED_AFTER
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.publication.refresh import stale_windows
from incident_pipelines.stages.recovery.event_worth import mean_worth

HORIZON = timedelta(days=14)
"""How far back missing events are looked for: an event may be much older than the record that carried it."""

MINUTE = timedelta(minutes=1)
Report = Callable[[str], None]


@dataclass
class _Found:
    suspects: list[Suspect] = field(default_factory=list[Suspect])
    rebuild: list[Affected] = field(default_factory=list[Affected])
    offsets: list[LostOffsets] = field(default_factory=list[LostOffsets])
    differences: list[KeyedRows] = field(default_factory=list[KeyedRows])
    money: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    totals: list[CountedTotals] = field(default_factory=list[CountedTotals])
    stated: dict[tuple[str, datetime], int] = field(default_factory=dict[tuple[str, datetime], int])
    notes: list[str] = field(default_factory=list[str])


def scope_of(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident_id: str,
    now: datetime,
    report: Report = lambda _: None,
) -> Scope:
    """Return what an incident has touched.

    Args:
        environment: WAREHOUSE_URL, and the variables that the catalog names.
        now: aware; what is younger than `SETTLED_AFTER` may be on its way and is not looked at.
        report: told of each step.

    Raises:
        UnknownIncident: there is none of that id.
        SourceUnavailable: control database or warehouse do not answer.
    """
    with available("control database"), control.connect() as connection:
        incident = read_incident(connection, incident_id)
        signals = signals_of(connection, incident_id)
        found = _Found(stated=stated_losses(connection, incident_id))
    strategy = strategy_of(incident.cause, incident.type)
    match strategy:
        case "replay":
            _missing_events(warehouse, catalog, environment, incident, signals, now, found, report)
            _stale(warehouse, catalog, incident, found)
        case "catch_up":
            _stale(warehouse, catalog, incident, found)
        case "rebuild" | "wait":
            _windows_of_signals(catalog, signals, found)
            found.rebuild += named_windows(catalog, incident, now)
        case "compare":
            _windows_of_differences(control, catalog, environment, incident, signals, now, found, report)
        case "watch" | "person":
            pass
    looked_at = (*found.totals, *found.suspects) if strategy == "replay" else found.rebuild
    if wanting := what_is_wanting(catalog, incident, strategy, {one.dataset for one in looked_at}):
        found.notes.append(wanting)
        strategy = "person"
    return _scope(warehouse, catalog, incident, strategy, now, found, environment)


def _scope(
    warehouse: Engine,
    catalog: Catalog,
    incident: Incident,
    strategy: Strategy,
    now: datetime,
    found: _Found,
    environment: Mapping[str, str],
) -> Scope:
    raw = [(one.dataset, one.window) for one in found.rebuild if one.dataset in catalog.landed]
    raw += [(one.dataset, one.window) for one in found.suspects]
    downstream = downstream_of(catalog, raw, now)
    direct = {(one.dataset, one.window) for one in found.rebuild}
    lossy = [one for one in found.suspects if one.missing]
    first, last = _lost_minutes(catalog, environment, lossy, found.notes)
    return Scope(
        incident_id=incident.incident_id,
        revision=incident.revision,
        strategy=strategy,
        as_of=now,
        suspects=tuple(found.suspects),
        rebuild=tuple(found.rebuild),
        downstream=tuple(one for one in downstream if (one.dataset, one.window) not in direct),
        offsets=tuple(found.offsets),
        first_lost=first,
        last_lost=last,
        money=tuple((currency, str(amount)) for currency, amount in sorted(found.money.items())),
        totals=tuple(found.totals),
        segments=missing_segments(catalog, environment, lossy, found.notes),
        worth=mean_worth(warehouse, catalog, {one.dataset for one in lossy}, first) if first else (),
        differences=tuple(found.differences),
        notes=tuple(dict.fromkeys(found.notes)),
    )


def _missing_events(
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident: Incident,
    signals: Sequence[RaisedSignal],
    now: datetime,
    found: _Found,
    report: Report,
) -> None:
    datasets = [name for name in incident.datasets if name in catalog.landed]
    values = {"datasets": datasets, "since": began_before(incident) - HOUR}
    with available("warehouse"), warehouse.connect() as connection:
        gaps = connection.execute(query("gaps_since"), values).all()
    found.offsets += [LostOffsets(g.dataset, g.topic, g.partition, g.from_offset, g.to_offset) for g in gaps]
    for name in datasets:
        report(f"{name}: counting what is missing")
        ranges = [(g.last_landed_at, g.detected_at) for g in gaps if g.dataset == name]
        if not ranges and not landing_writes_gaps(incident.cause) and incident.cause != REPORTED:
            ranges = _named_ranges(incident, signals, name, now)
        _suspects(catalog, environment, catalog.landed[name], incident, ranges, now, found)


def _named_ranges(
    incident: Incident, signals: Sequence[RaisedSignal], dataset: str, now: datetime
) -> list[tuple[datetime | None, datetime]]:
    """Return when events may have been lost as far as anybody names it: the signals' windows, else the incident's."""
    windows = [one.window for one in signals if one.dataset == dataset and one.window is not None]
    windows = windows or ([incident.window] if incident.window is not None else [])
    return [(window.start + HOUR, min(window.end, now)) for window in windows if window.start < now] or [(None, now)]


def _stale(warehouse: Engine, catalog: Catalog, incident: Incident, found: _Found) -> None:
    """Add the windows of the incident's datasets that are not made from the log as it stands."""
    for dataset, window in stale_windows(warehouse, catalog):
        if dataset in incident.datasets and (dataset in catalog.landed or incident.cause == REPORTED):
            found.rebuild.append(Affected(dataset, window, "events were landed since it was published"))


def _suspects(
    catalog: Catalog,
    environment: Mapping[str, str],
    contract: Landed,
    incident: Incident,
    ranges: Sequence[tuple[datetime | None, datetime]],
    now: datetime,
    found: _Found,
    windows: Sequence[TimeWindow] | None = None,
) -> None:
    """Add the parts of windows that are not proved whole.

    Args:
        ranges: when the last record before a gap was sent, and when the gap was found.
        windows: to look at; if absent, all within the horizon.
    """
    if contract.time_column is None and not isinstance(contract, EventContract):
        found.suspects.append(Suspect(contract.name, catalog.whole, None, None))
        return
    asked = list(windows) if windows is not None else hours_within(catalog, began_before(incident) - HORIZON, now)
    if not asked:
        return
    try:
        declared = declared_events(catalog, environment, contract.name, asked)
    except SourceUnavailable as error:
        found.notes.append(f"{contract.name}: {error}; what is missing can only be bounded")
        declared = [None] * len(asked)
    if any(total is not None for total in declared):
        landed = LandingLogSource(catalog, environment).events(contract.name, asked)
        known = [total for total in declared if total is not None]
        found.totals.append(CountedTotals(contract.name, len(known), sum(known)))
        for window, total, held in zip(asked, declared, landed, strict=True):
            gone = found.stated.get((contract.name, TimeWindow.hour_of(window.start).start), 0)
            suspect = Suspect(contract.name, window, total, held, gone)
            # Where nobody declared anything, nothing was sent: the producer declares every minute in which it sends.
            if suspect.missing:
                found.suspects.append(suspect)
        return
    touched = [one for one in asked if windows is not None or _may_hold(one, ranges) or is_named(incident, one)]
    if touched:
        found.notes.append(
            f"{contract.name}: nobody tells how many events there were; windows where some may be missing are suspect"
        )
    found.suspects += [Suspect(contract.name, window, None, None) for window in touched]


def _may_hold(window: TimeWindow, ranges: Iterable[tuple[datetime | None, datetime]]) -> bool:
    return any(
        (since is None or since - HOUR < window.end) and window.start < until.astimezone(UTC) for since, until in ranges
    )


def hours_within(catalog: Catalog, start: datetime, now: datetime) -> list[TimeWindow]:
    """Return the hours from a time on until where nothing is on its way any more; the last one may be shorter."""
    end = (now - SETTLED_AFTER).replace(second=0, microsecond=0)
    first = max(TimeWindow.hour_of(start).start, catalog.start)
    return list(TimeWindow(first, end).split(HOUR)) if first < end else []


def _windows_of_signals(catalog: Catalog, signals: Sequence[RaisedSignal], found: _Found) -> None:
    for signal in signals:
        contract = catalog.landed.get(signal.dataset) or (
            catalog.marts[signal.dataset].contract if signal.dataset in catalog.marts else None
        )
        if contract is None or signal.window is None:
            continue
        window = catalog.window_of(contract, signal.window.start)
        affected = Affected(signal.dataset, window, f"signal {signal.signal_id} ({signal.kind})")
        if affected.window not in [one.window for one in found.rebuild if one.dataset == signal.dataset]:
            found.rebuild.append(affected)


def _windows_of_differences(
    control: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident: Incident,
    signals: Sequence[RaisedSignal],
    now: datetime,
    found: _Found,
    report: Report,
) -> None:
    """Every hour in which an open difference lies, of the landed datasets that the two sides are made from."""
    compared = tuple(dict.fromkeys(s.dataset for s in signals if s.dataset in catalog.reconciliations))
    own: set[TimeWindow] = set()
    changed: set[TimeWindow] = set()
    values = {"reconciliations": list(compared), "incident_id": incident.incident_id}
    with available("control database"), control.connect() as connection:
        for row in connection.execute(query("open_difference_hours"), values):
            found.differences.append(KeyedRows(row.reconciliation, row.kind, row.rows))
            if row.money:
                found.money[row.currency or ""] = found.money.get(row.currency or "", Decimal()) + row.money
            own |= {TimeWindow.hour_of(hour) for hour in row.hours if hour is not None}
            changed |= {TimeWindow.hour_of(hour) for hour in row.changed_hours if hour is not None}
    names = [name for name in incident.datasets if name in catalog.landed]
    marts = [catalog.marts[name].contract for name in incident.datasets if name in catalog.marts]
    names += [given for mart in marts for given in mart.inputs]
    end = (now - SETTLED_AFTER).replace(second=0, microsecond=0)
    for name in dict.fromkeys(names):
        contract = catalog.landed[name]
        # A row of a table stays in the hour of its creation. A case that is made of events may lack the last of them.
        hours = own | changed if isinstance(contract, EventContract) else own
        windows = sorted(hour for hour in hours if catalog.start <= hour.start <= now)
        # Rows that do not say when: those of an hour lie in it. Of all that there is nobody can tell where they are.
        if not windows and incident.window is not None and incident.window.end - incident.window.start <= HOUR:
            windows = [TimeWindow.hour_of(incident.window.start)]
        settled = [TimeWindow(one.start, min(one.end, end)) for one in windows if one.start < end]
        report(f"{name}: looking at {len(settled)} hours with differences")
        _suspects(catalog, environment, contract, incident, (), now, found, settled)
        if contract.time_column is not None:
            found.rebuild += [Affected(name, one, "differences lie in it") for one in windows]


def missing_segments(
    catalog: Catalog, environment: Mapping[str, str], lossy: Sequence[Suspect], notes: list[str]
) -> tuple[MissingSegment, ...]:
    """Return in which segments events are missing, the most first, where producers declare them by segment.

    Args:
        lossy: parts of windows with missing events; those of which some are stated to be gone already are left out.
        notes: receives what could not be asked.
    """
    found: list[MissingSegment] = []
    log = LandingLogSource(catalog, environment)
    for name, group in groupby(lossy, key=lambda one: one.dataset):
        windows = sorted(one.window for one in group if not one.stated)
        columns = segment_columns(catalog, name)
        if not columns or not windows:
            continue
        try:
            declared = declared_by_segment(catalog, environment, name, windows)
            landed = log.by_segment(name, windows, columns)
        except SourceUnavailable as error:
            notes.append(f"{name}: {error}; where events are missing is not known")
            continue
        for segment, total in declared.items():
            if (missing := total - landed.get(segment, 0)) > 0:
                told = ", ".join(f"{column} {value}" for column, value in zip(columns, segment, strict=True))
                found.append(MissingSegment(name, told, missing))
    return tuple(sorted(found, key=lambda one: (one.dataset, -one.missing_at_most)))


def _lost_minutes(
    catalog: Catalog, environment: Mapping[str, str], lossy: Sequence[Suspect], notes: list[str]
) -> tuple[datetime | None, datetime | None]:
    """Return the first minute with a missing event, and the end of the last one."""
    if not lossy:
        return None, None
    log = LandingLogSource(catalog, environment)

    def minutes(suspect: Suspect) -> list[TimeWindow]:
        parts = list(suspect.window.split(MINUTE))
        try:
            declared = declared_events(catalog, environment, suspect.dataset, parts)
        except SourceUnavailable as error:
            notes.append(str(error))
            return [suspect.window]
        landed = log.events(suspect.dataset, parts)
        short = [
            part
            for part, total, held in zip(parts, declared, landed, strict=True)
            if total is not None and held < total
        ]
        return short or [suspect.window]

    earliest = min(one.window.start for one in lossy)
    latest = max(one.window.end for one in lossy)
    firsts = [minutes(one)[0].start for one in lossy if one.window.start == earliest]
    lasts = [minutes(one)[-1].end for one in lossy if one.window.end == latest]
    return min(firsts), max(lasts)
