"""Proves a recovery on the exact scope: counted again, published twice, compared again. Nothing else may close it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.recovery_sources.control_totals import declared_events
from incident_pipelines.adapters.recovery_sources.landing_log import LandingLogSource
from incident_pipelines.adapters.stores.incidents import signals_of
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable, WindowOwned
from incident_pipelines.core.incidents.joining import datasets_of
from incident_pipelines.core.incidents.scope import Affected, Scope, Suspect
from incident_pipelines.core.reconciliation.declaration import Reconciliation
from incident_pipelines.core.reconciliation.losses import losses_in
from incident_pipelines.core.recovery.loss import Brought
from incident_pipelines.core.recovery.plan import RecoveryPlan, tried_for
from incident_pipelines.core.recovery.proof import Differing, Proof, Recounted, Unread
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Refreshed, Skipped, refresh_window
from incident_pipelines.stages.reconciliation.reconcile import reconcile
from incident_pipelines.stages.recovery.windows_held import held_by_another

Report = Callable[[str], None]

TRIES = 4
"""Events keep arriving: a window whose inputs have moved since is published again, so often at most."""
HOURS_AT_MOST = 24
"""A scope of more hours is compared by one full reconciliation."""


def verify(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    scope: Scope,
    plans: Sequence[RecoveryPlan],
    unread: Mapping[str, Sequence[Unread]],
    now: datetime,
    *,
    owner: str,
    report: Report = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> Proof:
    """Return what proves, or disproves, that a scope is right again.

    Args:
        environment: addresses of the warehouse and of the catalog's sources.
        plans: of the scope's revision, that were carried out.
        unread: what each of them could not read to its end, by its digest.
        now: aware.
        owner: who does it; shown to others that want a window.
        check: called before each window; raises if it has to stop.

    Raises:
        SourceUnavailable: control database or warehouse do not answer.
        WindowOwned: another incident is putting a window right; that comes first.
    """
    report("counting the scope again")
    position = _position(warehouse, scope.datasets)
    recounted = recount(catalog, environment, scope, plans, unread)
    publishes = published_by(catalog, plans)
    unproven: list[str] = []
    differing: list[Differing] = []
    rows = changed = 0
    for number, one in enumerate(publishes, start=1):
        check()
        if number % 50 == 1:
            report(f"publishing again, window {number} of {len(publishes)}: nothing may change")
        outcome = _second_run(warehouse, catalog, scope.incident_id, one, owner)
        if isinstance(outcome, PublishedWindow):
            rows += outcome.rows
            changed += outcome.changed_rows
            if outcome.changed_rows:
                unproven.append(f"{one.dataset} {one.window}: a second publish changed {outcome.changed_rows} rows")
            continue
        place = (one.dataset, one.window)
        if isinstance(outcome, Skipped) and (other := held_by_another(control, warehouse, scope.incident_id, place)):
            raise WindowOwned(f"{other}; proved again once that is done")
        unproven.append(f"{one.dataset} {one.window}: {outcome.message}")
    compared: list[str] = []
    # What the landers bring by themselves is published; what was lost meanwhile belongs to the incident of that loss.
    if scope.strategy != "catch_up":
        compared = _compare(
            control, catalog, environment, scope, recounted, now, owner, report, unproven=unproven, differing=differing
        )
    return Proof(
        incident_id=scope.incident_id,
        revision=scope.revision,
        as_of=now,
        position=position,
        recounted=tuple(recounted),
        windows=len(publishes),
        rows=rows,
        changed=changed,
        unproven=tuple(unproven),
        differing=tuple(differing),
        compared=tuple(compared),
    )


def published_by(catalog: Catalog, plans: Sequence[RecoveryPlan]) -> list[Affected]:
    """Return the windows that some plans publish, each once, inputs before what is made from them."""
    found: dict[tuple[str, TimeWindow], Affected] = {}
    for plan in plans:
        for one in plan.publishes:
            found.setdefault((one.dataset, one.window), one)
    order = [*catalog.landed, *catalog.marts]
    return sorted(found.values(), key=lambda one: (order.index(one.dataset), one.window))


def brought_back(warehouse: Engine, catalog: Catalog, incident_id: str) -> dict[str, Brought]:
    """Return what was appended on an incident's behalf, by dataset, counted in the log itself."""
    found: dict[str, Brought] = {}
    with available("warehouse"), warehouse.connect() as connection:
        for row in connection.execute(query("recovery_origins"), {"incident_id": incident_id}):
            if row.contract in catalog.landed:
                found[row.contract] = Brought(int(row.rows), int(row.dead_letters))
    return found


def duplicates_of(warehouse: Engine, places: Sequence[tuple[str, TimeWindow]]) -> dict[str, int]:
    """Return how many copies the log holds of events of some windows, as publishing left them out."""
    values = {"datasets": [name for name, _ in places], "window_starts": [window.start for _, window in places]}
    with available("warehouse"), warehouse.connect() as connection:
        rows = connection.execute(query("window_duplicates"), values)
        return {row.dataset: int(row.duplicates) for row in rows}


def recount(
    catalog: Catalog,
    environment: Mapping[str, str],
    scope: Scope,
    plans: Sequence[RecoveryPlan] = (),
    unread: Mapping[str, Sequence[Unread]] | None = None,
) -> list[Recounted]:
    """Return what of a scope the log has now.

    Args:
        environment: addresses of the warehouse and of the catalog's sources.
        plans: that were carried out: they tell which sources are left.
        unread: what each of them could not read to its end, by its digest.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    found: list[Recounted] = []
    log = LandingLogSource(catalog, environment)
    for dataset, group in groupby(scope.suspects, key=lambda one: one.dataset):
        suspects = list(group)
        windows = [one.window for one in suspects]
        try:
            declared = declared_events(catalog, environment, dataset, windows)
        except SourceUnavailable:
            declared = [one.declared for one in suspects]
        for suspect, total, held in zip(suspects, declared, log.events(dataset, windows), strict=True):
            broken, silent, untried = _left(suspect, plans, unread or {})
            found.append(
                Recounted(dataset, suspect.window, total, suspect.landed, held, silent, untried, suspect.stated, broken)
            )
    return found


def _left(
    suspect: Suspect, plans: Sequence[RecoveryPlan], unread: Mapping[str, Sequence[Unread]]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the sources of a part of a window that broke off, that do not answer, and that are still to be read."""
    choices = [
        choice
        for plan in plans[-1:]
        for replay in (*plan.replays, *plan.uncovered)
        if (replay.dataset, replay.window) == (suspect.dataset, suspect.window)
        for choice in replay.choices
    ]
    tried = tried_for(suspect, plans, unread)
    broken = tuple(choice.source for choice in choices if choice.taken and choice.source not in tried)
    silent = tuple(choice.source for choice in choices if choice.silent)
    untried = tuple(one.source for one in choices if one.usable and one.events != 0 and one.source not in tried)
    return broken, (*silent, *broken), untried


def _second_run(warehouse: Engine, catalog: Catalog, incident_id: str, one: Affected, owner: str) -> Refreshed:
    """Publish a window until nothing changes, or its inputs have stood still; return the last time.

    Inputs that move each time, faster perhaps than it can be published, disprove nothing: what arrives has a refresh.
    """
    version: int | None = None
    tries = 0
    while True:
        outcome = refresh_window(
            warehouse, catalog, one.dataset, one.window, owner=owner, wait_seconds=60, incident_id=incident_id
        )
        if not isinstance(outcome, PublishedWindow):
            return outcome
        if not outcome.changed_rows or outcome.version == version:
            return outcome
        version = outcome.version
        tries += 1
        if tries == TRIES:
            return replace(outcome, changed_rows=0)


def _compare(
    control: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    scope: Scope,
    recounted: Sequence[Recounted],
    now: datetime,
    owner: str,
    report: Report,
    *,
    unproven: list[str],
    differing: list[Differing],
) -> list[str]:
    touched = set(scope.datasets)
    hours = sorted(
        {
            TimeWindow.hour_of(part.start)
            for one in (*scope.suspects, *(one for one in scope.rebuild if one.dataset in catalog.landed))
            if one.window != catalog.whole
            for part in TimeWindow(TimeWindow.hour_of(one.window.start).start, one.window.end).split(HOUR)
        }
    )
    # What raised the incident is compared whatever there was to be done about it, and be it nothing.
    with available("control database"), control.connect() as connection:
        raised = {one.dataset for one in signals_of(connection, scope.incident_id)}
    # What a source may still have, or does not say, is not stated to be gone.
    gone = [
        (one.dataset, one.window, one.missing)
        for one in recounted
        if one.missing and not one.silent and not one.untried
    ]
    lines: list[str] = []
    for name, declared in catalog.reconciliations.items():
        if name not in raised and not touched.intersection(datasets_of(catalog, name)):
            continue
        # Each hour is looked at whole, with all that is open besides.
        looks: Sequence[TimeWindow | None] = [None]
        if declared.time and 0 < len(hours) <= HOURS_AT_MOST:
            looks = hours
        report(f"{name}: comparing {'everything' if looks == [None] else f'{len(hours)} hours'} again")
        losses = losses_in(catalog, declared, scope.incident_id, gone)
        found: dict[TimeWindow, int] = {}
        explained = 0
        try:
            for hour in looks:
                run = reconcile(
                    catalog, control, name, hour, as_of=now, owner=owner, environment=environment, losses=losses
                )
                if run.counts.differences:
                    place = _looked_at(catalog, declared, hour)
                    found[place] = found.get(place, 0) + run.counts.differences
                explained = run.explained
        except IncidentPipelinesError as error:
            unproven.append(f"{name} could not be compared: {error}")
            continue
        rows = sum(found.values())
        line = f"{name}: {rows} unexplained differences in the scope"
        lines.append(f"{line}, {explained} that the stated loss accounts for" if explained else line)
        if rows:
            differing.append(Differing(name, rows, tuple(found)))
    return lines


def _looked_at(catalog: Catalog, declared: Reconciliation, hour: TimeWindow | None) -> TimeWindow:
    """Return where the rows may lie that a run over an hour compares."""
    if hour is None or declared.changed is not None:
        return catalog.whole
    return TimeWindow(hour.start - declared.hourly.lookback, hour.end)


def _position(warehouse: Engine, datasets: Sequence[str]) -> tuple[tuple[str, int], ...]:
    with available("warehouse"), warehouse.connect() as connection:
        rows = connection.execute(query("log_positions"), {"datasets": list(datasets)})
        return tuple((row.place, int(row.next)) for row in rows)
