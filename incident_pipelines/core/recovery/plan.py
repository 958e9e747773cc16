"""Scope and coverage → a recovery plan: what is replayed from where, what is published again, what nothing covers."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import msgspec

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.scope import Affected, Scope, Suspect, downstream_of
from incident_pipelines.core.recovery.coverage import LANDING_LOG, Coverage, Recoverability, choose
from incident_pipelines.core.recovery.proof import Unread
from incident_pipelines.core.windows import TimeWindow

SECONDS_FOR_A_WINDOW = 0.1
"""Measured: building, checking and publishing one window of the example on two cores."""

MAX_WINDOWS = 5_000
MAX_EVENTS = 10_000_000
"""A larger plan waits for a person, whatever the mode."""


@dataclass(frozen=True)
class Choice:
    """What one source could give, and whether it is taken.

    Args:
        events: it has; None where that is not known.
        silent: it did not answer, and may have all of it.
        usable: it has something, or may, and a plan may still take it.
        until: when the first of them ages out there.
    """

    source: str
    taken: bool
    events: int | None
    complete: bool | None
    silent: bool
    usable: bool
    until: datetime | None
    why: str


@dataclass(frozen=True)
class Replay:
    """Missing events of a part of a window, and the sources that they are looked for in, in this order.

    Args:
        missing: exactly so many; None where nobody declared how many there are.
        choices: of every source of the contract.
    """

    dataset: str
    window: TimeWindow
    missing: int | None
    choices: tuple[Choice, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that are taken."""
        return tuple(choice.source for choice in self.choices if choice.taken)


@dataclass(frozen=True)
class Estimate:
    """What a plan costs, roughly.

    Args:
        events: replayed at most.
        seconds: with the guardrail of `events_per_second`.
    """

    events: int
    windows: int
    seconds: float
    events_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class RecoveryPlan:
    """What will be done about an incident; making one changes nothing.

    Args:
        revision: of the incident.
        attempt: 1 for the first plan since the incident was detected; a later one takes what those have not tried.
        number: of the plan among all of its incident: two plans are two, whatever they say.
        replays: parts of windows with at least one source.
        uncovered: parts of windows that no source is left for: permanently lost, as far as events are missing.
        publishes: windows, in the order in which they are published.
        remove: names of reconciliations whose unexpected rows are removed after the source was asked again.
        approval: why a person has to agree, whatever the mode; nothing where nobody has to.
        sums: of reported numbers over the windows, before anything was done (see `stages.mart_sums`).
    """

    incident_id: str
    revision: int
    attempt: int
    replays: tuple[Replay, ...] = ()
    uncovered: tuple[Replay, ...] = ()
    publishes: tuple[Affected, ...] = ()
    remove: tuple[str, ...] = ()
    approval: tuple[str, ...] = ()
    estimate: Estimate = Estimate(0, 0, 0.0, None)
    notes: tuple[str, ...] = ()
    number: int = 1
    sums: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    @property
    def digest(self) -> str:
        """SHA-256 of what is to be done, whatever the estimates say."""
        content = replace(self, estimate=Estimate(0, 0, 0.0, None), notes=(), sums={})
        plain = _without_times(msgspec.to_builtins(content))
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()

    def body(self) -> dict[str, Any]:
        """Return the plan in types that JSON has."""
        return msgspec.to_builtins(self)


def plan_of(body: Mapping[str, Any]) -> RecoveryPlan:
    """Return a plan that was kept as JSON.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.convert(body, RecoveryPlan)


def plan_recovery(
    catalog: Catalog,
    scope: Scope,
    found: Mapping[Suspect, Recoverability],
    *,
    attempt: int,
    tried: Mapping[Suspect, frozenset[str]],
    excluded: Mapping[str, str],
    now: datetime,
    events_per_second: float | None,
) -> RecoveryPlan:
    """Choose, for each part of a window, the sources in the contract's order; the first to cover wins, several combine.

    Args:
        found: coverage of each suspect.
        tried: sources that a plan before this one has taken for it already.
        excluded: name of a source → why it cannot add anything.
        now: aware; months before it are closed.
        events_per_second: guardrail; None without one.
    """
    replays: list[Replay] = []
    uncovered: list[Replay] = []
    notes = list(scope.notes)
    for suspect in scope.suspects:
        choices = _choices(suspect, found[suspect], tried.get(suspect, frozenset()), excluded)
        replay = Replay(suspect.dataset, suspect.window, suspect.missing, choices)
        (replays if replay.sources else uncovered).append(replay)
    landed = [(one.dataset, catalog.window_of(catalog.landed[one.dataset], one.window.start)) for one in replays]
    again = list(scope.rebuild)
    again += [Affected(dataset, window, "events are replayed into it") for dataset, window in dict.fromkeys(landed)]
    marts = [one for one in again if one.dataset in catalog.marts]
    raw = [one for one in again if one.dataset not in catalog.marts]
    until = scope.as_of
    marts += downstream_of(catalog, [(one.dataset, one.window) for one in raw], until)
    publishes = (*_once(raw, list(catalog.landed)), *_once(marts, list(catalog.marts)))
    approval = list(closed_periods(catalog, publishes, now))
    events = sum(_most(replay) for replay in replays)
    if len(publishes) > MAX_WINDOWS:
        approval.append(f"{len(publishes):,} windows are published again, more than {MAX_WINDOWS:,}")
    if events > MAX_EVENTS:
        approval.append(f"up to {events:,} events are replayed, more than {MAX_EVENTS:,}")
    rate = events_per_second or 50_000
    seconds = events / rate + SECONDS_FOR_A_WINDOW * 2 * len(publishes)
    return RecoveryPlan(
        incident_id=scope.incident_id,
        revision=scope.revision,
        attempt=attempt,
        replays=tuple(replays),
        uncovered=tuple(uncovered),
        publishes=publishes,
        remove=tuple(dict.fromkeys(one.reconciliation for one in scope.differences if one.kind == "unexpected")),
        approval=tuple(approval),
        estimate=Estimate(events, len(publishes), round(seconds, 1), events_per_second),
        notes=tuple(notes),
    )


def tried_for(
    suspect: Suspect, plans: Sequence[RecoveryPlan], unread: Mapping[str, Sequence[Unread]]
) -> frozenset[str]:
    """Return the sources that some plans have read to their end for a part of a window.

    Args:
        unread: what each plan could not read to its end, by its digest.
    """
    return frozenset(
        source
        for plan in plans
        for replay in plan.replays
        if (replay.dataset, replay.window) == (suspect.dataset, suspect.window)
        for source in replay.sources
        if not any(
            (one.dataset, one.source) == (suspect.dataset, source) and one.window.overlaps(suspect.window)
            for one in unread.get(plan.digest, ())
        )
    )


def closed_periods(catalog: Catalog, publishes: Iterable[Affected], now: datetime) -> tuple[str, ...]:
    """Return which numbers that are published and closed a plan would move: whole months of marts that close by month.

    Args:
        now: aware; the month of it is open.
    """
    this_month = (now.year, now.month)
    months: dict[tuple[str, tuple[int, int]], int] = {}
    for one in publishes:
        mart = catalog.marts.get(one.dataset)
        month = (one.window.start.year, one.window.start.month)
        if mart is not None and mart.contract.closes_monthly and month < this_month:
            months[one.dataset, month] = months.get((one.dataset, month), 0) + 1
    return tuple(
        f"{days} days of {dataset} lie in {year}-{month:02}, which is closed and published"
        for (dataset, (year, month)), days in sorted(months.items())
    )


def _choices(
    suspect: Suspect, found: Recoverability, tried: frozenset[str], excluded: Mapping[str, str]
) -> tuple[Choice, ...]:
    asked = [one for one in found.coverages if one.source != LANDING_LOG]
    eligible = [one for one in asked if one.source not in excluded and one.source not in tried and one.replays]
    taken = {one.source for one in choose(eligible, found.declared)}
    return tuple(
        Choice(
            one.source,
            one.source in taken,
            one.events,
            one.complete,
            one.replays is None,
            one in eligible,
            one.until,
            _why(one, one.source in taken, tried, excluded),
        )
        for one in asked
    )


def _why(one: Coverage, taken: bool, tried: frozenset[str], excluded: Mapping[str, str]) -> str:
    if one.source in excluded:
        return excluded[one.source]
    if one.source in tried:
        return "was replayed by a plan before this one"
    if one.replays is None:
        return f"does not answer: {one.reason}" if one.reason else "does not answer"
    if not one.replays:
        return one.reason or "has nothing of it"
    said = "has all of it" if one.complete else "nobody is known to have more" if taken else "another one covers it"
    return f"{said}; {one.reason}" if one.reason else said


def _most(replay: Replay) -> int:
    if replay.missing is not None:
        return replay.missing
    return max((choice.events or 0 for choice in replay.choices if choice.taken), default=0)


def _once(windows: Sequence[Affected], order: Sequence[str]) -> list[Affected]:
    """Return each window once, with the first reason for it, references before what refers to them."""
    first: dict[tuple[str, datetime], Affected] = {}
    for one in windows:
        first.setdefault((one.dataset, one.window.start), one)
    return sorted(first.values(), key=lambda one: (order.index(one.dataset), one.window.start))


def _without_times(content: Any) -> Any:
    """Leave out when a source's copy ages out, and how it was described: neither changes what is done."""
    if isinstance(content, dict):
        named = cast("dict[str, Any]", content)
        return {name: _without_times(value) for name, value in named.items() if name not in ("until", "why")}
    if isinstance(content, list | tuple):
        return [_without_times(value) for value in cast("list[Any]", content)]
    return content
