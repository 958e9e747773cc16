"""What each source can still replay of a window, which of them are taken, and what would be gone with one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from incident_pipelines.core.windows import TimeWindow

LANDING_LOG = "landing_log"
KAFKA = "kafka"
DATABASE_EXTRACT = "database_extract"
AUDIT_LOG = "audit_log"

SETTLED_AFTER = timedelta(minutes=15)
"""Until so long after a window's end its events may be on their way; nothing is missing from it yet."""

EVENTS_PER_SECOND = {LANDING_LOG: 250_000, KAFKA: 85_000, DATABASE_EXTRACT: 48_000, AUDIT_LOG: 110_000}
"""Measured: reading and decoding 500-byte events on two cores; for an order of magnitude."""


@dataclass(frozen=True)
class Coverage:
    """What one source can replay of one window.

    Args:
        replays: whether it has something to replay; None: it did not answer, which says nothing about what it has.
        events: different events it has; None where that was not counted.
        at_most: a bound where `events` is not known.
        complete: whether it has all there ever were; None: that cannot be proved.
        until: when the first of them ages out; None: for good, as far as anybody declared.
        reason: why it is so, for a person.
        broken: it can replay no window at all, whatever it holds.
        from_topics: of the landing log alone: how many of the events came from a topic.
    """

    source: str
    dataset: str
    window: TimeWindow
    replays: bool | None
    events: int | None = None
    at_most: int | None = None
    complete: bool | None = None
    until: datetime | None = None
    reason: str = ""
    broken: bool = False
    from_topics: int | None = None

    @property
    def seconds(self) -> float | None:
        """How long reading it takes, roughly."""
        events = self.at_most if self.events is None else self.events
        return None if events is None else events / EVENTS_PER_SECOND.get(self.source, 50_000)


def counted(
    source: str,
    dataset: str,
    window: TimeWindow,
    events: int,
    *,
    until: datetime | None = None,
    reasons: Iterable[str] = (),
    from_topics: int | None = None,
) -> Coverage:
    """Return the coverage of a source that was read; without events there is nothing to replay, nor to age out."""
    return Coverage(
        source,
        dataset,
        window,
        replays=events > 0,
        events=events,
        until=until if events else None,
        reason="; ".join(reasons),
        from_topics=from_topics,
    )


def silent(source: str, dataset: str, windows: Iterable[TimeWindow], reason: str) -> list[Coverage]:
    """Return the coverage of a source that does not answer: unknown, and never none."""
    return [Coverage(source, dataset, window, replays=None, reason=reason) for window in windows]


def unusable(source: str, dataset: str, windows: Iterable[TimeWindow], reason: str) -> list[Coverage]:
    """Return the coverage of a source that can replay nothing, whatever the window."""
    return [Coverage(source, dataset, window, replays=False, reason=reason, broken=True) for window in windows]


def judged(coverage: Coverage, declared: int | None, *, settled: bool) -> Coverage:
    """Return the coverage compared with what the producer declares to have sent.

    As many different events as declared is taken for all of them. More than declared proves nothing: then the
    declaration is not complete.

    Args:
        declared: control total of the window; None where there is none.
        settled: nothing of the window is on its way any more.
    """
    if coverage.replays is None or coverage.events is None or declared is None:
        return coverage
    if coverage.events == declared:
        return replace(coverage, replays=True, complete=True)
    difference = abs(declared - coverage.events)
    said = f"{difference} {'fewer' if coverage.events < declared else 'more'} than the producer declares"
    complete = False if coverage.events < declared and settled else None
    return replace(coverage, complete=complete, reason="; ".join(filter(None, (said, coverage.reason))))


@dataclass(frozen=True)
class LossBound:
    """How many events would be gone for good.

    Sources were counted and not compared by id: it is assumed that one with fewer events has a part of those of one
    with more.

    Args:
        at_most: None where nobody knows how many there are.
        unknown: names of sources that did not answer or were not counted, which may have them.
    """

    at_least: int
    at_most: int | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recoverability:
    """What can be replayed of one window of a dataset today.

    Args:
        declared: control total of the producer; None where there is none.
        coverages: by source, in the contract's order.
    """

    dataset: str
    window: TimeWindow
    settled: bool
    declared: int | None
    coverages: tuple[Coverage, ...]

    def of(self, source: str) -> Coverage | None:
        """Return the coverage of a source, if the contract names it."""
        return next((one for one in self.coverages if one.source == source), None)

    @property
    def most(self) -> int | None:
        """The largest number of events that anybody counted or declared; None if nobody did."""
        known = [one.events for one in self.coverages if one.events is not None]
        return max([*known, *([] if self.declared is None else [self.declared])], default=None)

    @property
    def chosen(self) -> tuple[Coverage, ...]:
        """The sources that a replay of the whole window takes; of the contract's order, the first to cover alone wins.

        Where none does, those that have something combine, in that order.
        """
        return choose(self.coverages, self.declared)

    def gone_without(self, source: str = LANDING_LOG) -> LossBound:
        """Return what would be gone for good if a source were lost now."""
        lost = self.of(source)
        others = [one for one in self.coverages if one.source != source]
        unknown = tuple(one.source for one in others if one.replays is None or (one.replays and one.events is None))
        if any(one.complete for one in others):
            return LossBound(0, 0)
        if lost is not None and lost.replays is False:
            return LossBound(0, 0)  # it has nothing that could be lost with it
        held = lost.events if lost else 0
        known = [one.events for one in others if one.replays and one.events is not None]
        most = self.most
        if held is None and self.declared is None:
            return LossBound(0, None, unknown)
        at_most = (self.declared if held is None else held) or 0
        if most is not None and known:
            at_most = min(at_most, most - max(known))
        bounded = [one.at_most for one in others if one.source in unknown]
        if held is None or None in bounded:
            return LossBound(0, at_most, unknown)
        at_least = held - sum(known) - sum(bound or 0 for bound in bounded)
        return LossBound(max(0, at_least), at_most, unknown)


def choose(coverages: Sequence[Coverage], declared: int | None) -> tuple[Coverage, ...]:
    """Return the sources to replay a window from.

    Args:
        coverages: of one window, in order of preference.
        declared: control total of the window, if there is one.

    Returns:
        The first that covers alone: it is complete, or nobody is known to have more. Otherwise all that have something.
    """
    usable = [one for one in coverages if one.replays]
    complete = next((one for one in usable if one.complete), None)
    if complete is not None:
        return (complete,)
    most = max([one.events for one in usable if one.events is not None], default=0)
    unsure = any(one.replays is None or (one.replays and one.events is None) for one in coverages)
    if not unsure and (declared is None or most >= declared):
        return tuple([one for one in usable if one.events == most][:1])
    return tuple(usable)
