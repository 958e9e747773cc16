"""What is done first about an incident, before anything is investigated: by its cause, as far as the mode allows."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never, cast

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import REPORTED, rule_of
from incident_pipelines.core.incidents.containment_actions import (
    ContainmentAction,
    HoldWindows,
    RestoreRetention,
    RevokeAccess,
    RevokeWrites,
    StartLanders,
    is_ours_to_undo,
)
from incident_pipelines.core.incidents.holds import Place, joined
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.windows import DAY, TimeWindow

SuspendedWatch = Literal["retention", "landing"]

RETENTION_SIGNALS = ("retention_below_floor", "landing_lag_near_retention")
LANDING_SIGNALS = ("landing_stalled", "landing_lag_near_retention")

_NOTHING = {
    "topic_identity": "landing of the topic has stopped by itself, and nothing wrong was landed",
    "broker_log_cut": "landing of the partition has stopped by itself, and nothing wrong was landed",
    "recovery_source": "no data is wrong",
    "duplicates": "published tables have each event once: copies are left out when a window is published",
    "landing_behind": "landing goes on, and the topics keep what it has not landed yet",
    "run_failed": "what was published stays as it is, and the job's next run takes up what is not done",
}


@dataclass(frozen=True)
class Choice:
    """What is to be done about an incident.

    Args:
        actions: to do, in this order.
        forbidden: that the mode does not allow.
        suspended: that wait for a watch which somebody has suspended.
        nothing_because: why there is nothing at all to do; None where there is.
    """

    actions: tuple[ContainmentAction, ...]
    forbidden: tuple[ContainmentAction, ...] = ()
    suspended: tuple[ContainmentAction, ...] = ()
    nothing_because: str | None = None


def containment_of(
    incident: Incident,
    signals: Sequence[RaisedSignal],
    catalog: Catalog,
    mode: Mode,
    now: datetime,
    suspended: Collection[str] = (),
) -> Choice:
    """Decide how an incident is contained.

    Args:
        signals: of the incident.
        now: aware; nothing is held past the next day.
        suspended: watches that somebody has suspended: what they guard is left alone.
    """
    if mode == "observe":
        return Choice((), nothing_because="mode observe: the system only watches")
    wanted = tuple(dict.fromkeys(_wanted(incident, signals, catalog, now)))
    if not wanted:
        why = _NOTHING.get(incident.cause, "nothing is known that would keep this from getting worse")
        return Choice((), nothing_because=why)
    waiting = tuple(action for action in wanted if _watch_of(action) in suspended)
    rest = [action for action in wanted if action not in waiting]
    allowed = tuple(action for action in rest if mode == "act" or is_ours_to_undo(action))
    return Choice(allowed, tuple(action for action in rest if action not in allowed), waiting)


def is_due_again(action: ContainmentAction, intended_at: datetime, signals: Iterable[RaisedSignal]) -> bool:
    """Whether what an action had put right is wrong again: a signal says so that was raised since, and lasts.

    Args:
        intended_at: when the action was last begun.
        signals: of the incident.
    """
    lasting = [one for one in signals if rule_of(one.kind).clears and one.cleared_at is None]
    again = [one for one in lasting if one.raised_at > intended_at]
    match action:
        case RestoreRetention(topic=topic):
            return any(one.kind in RETENTION_SIGNALS and one.detail.get("topic") == topic for one in again)
        case StartLanders():
            return any(one.kind in LANDING_SIGNALS for one in again)
        case HoldWindows() | RevokeWrites() | RevokeAccess():
            return False
        case _:
            assert_never(action)


def paused_days(catalog: Catalog, places: Iterable[Place]) -> list[Place]:
    """Return the days of marts that are made from windows of landed datasets.

    An event of a day changes the mart's rows of that day, and of as many days before as it reaches.
    """
    found = [
        (
            mart.name,
            TimeWindow(
                TimeWindow.day_of(span.start).start - timedelta(days=mart.reach_days),
                max(TimeWindow.day_of(span.end - timedelta(microseconds=1)).end, span.end),
            ),
        )
        for dataset, span in places
        for mart in catalog.downstream(dataset)
    ]
    return joined(found)


def _wanted(
    incident: Incident, signals: Sequence[RaisedSignal], catalog: Catalog, now: datetime
) -> Iterator[ContainmentAction]:
    if incident.type == "breach":
        tables = _all_tables(catalog, incident.datasets)
        if tables:
            yield RevokeAccess(tables)
        return
    whole = [(name, incident.window) for name in incident.datasets] if incident.window else []
    # A mere symptom of another cause does not say where this one has been.
    own = [signal for signal in signals if rule_of(signal.kind).cause == incident.cause]
    match incident.cause:
        case "log_retention":
            yield from _keep_landing(incident, signals, catalog)
            yield from _pause(catalog, whole, now, "events of its inputs were lost")
        case "landing_stopped":
            yield StartLanders()
        case "last_copy":
            if any("kafka" in _listed(signal, "sources") for signal in signals):
                yield from _keep_landing(incident, signals, catalog)
        case "changed_outside":
            for signal in own:
                yield from _revoke(signal, catalog)
            lasting = [(signal.dataset, signal.window) for signal in own if signal.window and not signal.cleared_at]
            yield from _quarantine(catalog, lasting, now, "it was changed by something other than publishing")
            yield from _pause(catalog, lasting, now, "its inputs were changed by something other than publishing")
        case "rules_broken":
            broken = [(signal.dataset, signal.window) for signal in own if signal.window]
            yield from _quarantine(catalog, broken, now, "its data breaks the rules of its contract")
        case "sides_disagree":
            yield from _pause(catalog, whole, now, "two sides that have to agree do not")
        case cause if cause == REPORTED:
            yield from _reported(incident, signals, catalog, whole, now)
        case _:
            return


def _reported(
    incident: Incident, signals: Sequence[RaisedSignal], catalog: Catalog, whole: list[Place], now: datetime
) -> Iterator[ContainmentAction]:
    """What a person reports is known by its type alone."""
    reason = f"a person reported: {incident.title}"
    match incident.type:
        case "data_loss":
            yield from _keep_landing(incident, signals, catalog)
            yield from _pause(catalog, whole, now, reason)
        case "corruption":
            yield from _quarantine(catalog, whole, now, reason)
            yield from _pause(catalog, whole, now, reason)
        case "pipeline_failure" | "freshness_violation":
            yield StartLanders()
        case _:
            return


def _keep_landing(incident: Incident, signals: Sequence[RaisedSignal], catalog: Catalog) -> Iterator[ContainmentAction]:
    """Nothing more is to age out, and what is still there is to land."""
    named = {signal.detail.get("topic") for signal in signals}
    for topic, contract in sorted(catalog.topics.items()):
        if contract.name in incident.datasets or topic in named:
            yield RestoreRetention(topic)
    yield StartLanders()


def _quarantine(catalog: Catalog, places: Iterable[Place], now: datetime, reason: str) -> Iterator[HoldWindows]:
    known = ((dataset, span) for dataset, span in places if dataset in catalog.landed or dataset in catalog.marts)
    for dataset, span in joined((dataset, _aligned(catalog, dataset, span)) for dataset, span in known):
        bounded = _bounded(catalog, dataset, span, now)
        if bounded:
            yield HoldWindows("quarantine", dataset, bounded, reason)


def _pause(catalog: Catalog, places: Iterable[Place], now: datetime, reason: str) -> Iterator[HoldWindows]:
    bounded = [(dataset, _clipped(catalog, span, now)) for dataset, span in places]
    for mart, days in paused_days(catalog, [(dataset, span) for dataset, span in bounded if span]):
        held = _bounded(catalog, mart, days, now)
        if held:
            yield HoldWindows("pause", mart, held, reason)


def _aligned(catalog: Catalog, dataset: str, span: TimeWindow) -> TimeWindow:
    """Return all of the windows that a span touches."""
    contract = catalog.landed.get(dataset) or catalog.marts[dataset].contract
    first = catalog.window_of(contract, span.start)
    last = catalog.window_of(contract, span.end - timedelta(microseconds=1))
    return TimeWindow(first.start, max(first.end, last.end))


def _bounded(catalog: Catalog, dataset: str, span: TimeWindow, now: datetime) -> TimeWindow | None:
    """Clip a span; a dataset that is one window is held as what it is."""
    if span == catalog.whole:
        return span
    return _clipped(catalog, span, now, days=dataset in catalog.marts)


def _clipped(catalog: Catalog, span: TimeWindow, now: datetime, *, days: bool = False) -> TimeWindow | None:
    first = TimeWindow.day_of(catalog.start).start if days else catalog.start
    start, end = max(span.start, first), min(span.end, TimeWindow.day_of(now + DAY).end)
    return TimeWindow(start, end) if start < end else None


def _revoke(signal: RaisedSignal, catalog: Catalog) -> Iterator[RevokeWrites]:
    statements = signal.detail.get("statements")
    for statement in cast(list[Any], statements) if isinstance(statements, list) else []:
        role: Any = cast(dict[str, Any], statement).get("user_name") if isinstance(statement, dict) else None
        if isinstance(role, str) and role and signal.dataset in (*catalog.landed, *catalog.marts):
            yield RevokeWrites(role, _published_table(catalog, signal.dataset))


def _published_table(catalog: Catalog, dataset: str) -> str:
    return f"{'marts' if dataset in catalog.marts else 'raw'}.{dataset}"


def _all_tables(catalog: Catalog, datasets: Iterable[str]) -> tuple[str, ...]:
    """Where a dataset's rows stand; what landed holds the messages as they came."""
    tables = {_published_table(catalog, name) for name in datasets if name in (*catalog.landed, *catalog.marts)}
    return tuple(sorted(tables | {f"landing.{name}" for name in datasets if name in catalog.landed}))


def _listed(signal: RaisedSignal, name: str) -> list[Any]:
    value = signal.detail.get(name)
    return cast(list[Any], value) if isinstance(value, list) else []


def _watch_of(action: ContainmentAction) -> SuspendedWatch | None:
    match action:
        case RestoreRetention():
            return "retention"
        case StartLanders():
            return "landing"
        case HoldWindows() | RevokeWrites() | RevokeAccess():
            return None
        case _:
            assert_never(action)
