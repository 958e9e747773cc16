"""What exactly an incident has touched: parts of windows whose events may be missing, and windows to publish again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import MartContract
from incident_pipelines.core.incidents.causes import REPORTED
from incident_pipelines.core.incidents.incident import IncidentType
from incident_pipelines.core.windows import DAY, TimeWindow

Strategy = Literal["replay", "catch_up", "rebuild", "compare", "wait", "watch", "person"]
"""How an incident of a cause is brought to its end.

replay: events are missing from the log, and are looked for in the recovery sources; the windows are published again.
catch_up: nothing is missing that the landers will not bring by themselves; what they brought is published.
rebuild: the log is whole, and what was published is not: the windows are published again.
compare: two sides disagree: keys tell which windows to replay, to extract and to rebuild.
wait: the data is wrong where it comes from; the windows stay quarantined until their inputs or their SQL change.
watch: nothing is lost yet; it is over when its signals are.
person: nothing is known that could be done without one.
"""

STRATEGIES: dict[str, Strategy] = {
    "log_retention": "replay",
    "topic_identity": "replay",
    "broker_log_cut": "replay",
    "last_copy": "replay",
    "landing_stopped": "catch_up",
    "recovery_undone": "replay",
    "changed_outside": "rebuild",
    "duplicates": "rebuild",
    "sides_disagree": "compare",
    "rules_broken": "wait",
    "recovery_source": "watch",
    "landing_behind": "catch_up",
    "run_failed": "watch",
}
"""By class of cause; see `core.incidents.causes`."""

WATCHED_CAUSES = frozenset(cause for cause, strategy in STRATEGIES.items() if strategy == "watch")
"""Of incidents that nothing is done about: they last as long as their signals, which may be days."""

REPORTED_STRATEGIES: dict[IncidentType, Strategy] = {
    "data_loss": "replay",
    "corruption": "rebuild",
    "quality_degradation": "rebuild",
    "pipeline_failure": "catch_up",
    "freshness_violation": "catch_up",
}
"""By type, of what a person opened: its cause is not known."""


def landing_writes_gaps(cause: str) -> bool:
    """Whether landing writes down the offsets of all that is lost by a cause: then nothing else is suspect."""
    return cause == "log_retention"


def strategy_of(cause: str, incident_type: IncidentType) -> Strategy:
    """Return how an incident is brought to its end; what nobody has a strategy for is left to a person."""
    if incident_type == "breach":
        return "person"
    if cause == REPORTED:
        return REPORTED_STRATEGIES.get(incident_type, "person")
    return STRATEGIES.get(cause, "person")


@dataclass(frozen=True)
class LostOffsets:
    """Offsets of a topic's partition that aged out before they were landed: a bound of records, never their number."""

    dataset: str
    topic: str
    partition: int
    from_offset: int
    to_offset: int

    @property
    def records_at_most(self) -> int:
        """A range also counts what is no record."""
        return self.to_offset - self.from_offset


@dataclass(frozen=True)
class Suspect:
    """A part of a window of the log, in which events are missing or may be.

    Args:
        window: the part that is looked at; all that is younger may still be on its way.
        declared: control total of the producer; None where there is none.
        landed: different events that the log has; None where it could not be asked.
        stated: events that earlier incidents have stated to be gone for good: they are not missing anew.
    """

    dataset: str
    window: TimeWindow
    declared: int | None
    landed: int | None
    stated: int = 0

    @property
    def missing(self) -> int | None:
        """How many events are missing, exactly; None where nobody declared how many there are."""
        if self.declared is None or self.landed is None:
            return None
        return max(0, self.declared - self.landed - self.stated)

    @property
    def is_whole(self) -> bool:
        """Whether it is proved that nothing is missing."""
        return self.missing == 0


@dataclass(frozen=True)
class CountedTotals:
    """What a producer declares of a dataset, over all windows that were counted; the suspect ones among them.

    Args:
        windows: how many.
        declared: events.
    """

    dataset: str
    windows: int
    declared: int


@dataclass(frozen=True)
class MissingSegment:
    """Missing events of a dataset that the producer declares under one segment.

    Args:
        segment: its columns and values, like "region eu, platform ios".
        missing_at_most: events; dead letters have no segment and may be among them.
    """

    dataset: str
    segment: str
    missing_at_most: int


@dataclass(frozen=True)
class Worth:
    """What an event of a dataset is worth on average.

    Args:
        per_event: in currency units, as text; the mean over all events that were published lately.
    """

    dataset: str
    currency: str
    per_event: str

    def of(self, events: int) -> Decimal:
        """Return what so many events are worth, to the cent."""
        return (Decimal(self.per_event) * events).quantize(Decimal("0.01"))


@dataclass(frozen=True)
class Affected:
    """A window of a dataset that has to be published again.

    Args:
        because: what pulled it in.
    """

    dataset: str
    window: TimeWindow
    because: str


@dataclass(frozen=True)
class KeyedRows:
    """Rows of a dataset of tables that its source no longer has, or has otherwise; by reconciliation."""

    reconciliation: str
    kind: Literal["missing", "unexpected", "mismatched"]
    rows: int


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an incident has touched.

    Args:
        revision: of the incident, that it was made for.
        as_of: when it was looked at.
        suspects: parts of windows that are not proved whole, in order.
        rebuild: windows to publish again whatever is replayed, the landed ones first.
        downstream: windows of marts that are made from both.
        offsets: that aged out.
        first_lost, last_lost: minutes of the first and the end of the last missing event, as far as totals tell them.
        money: at stake by what reconciliations had found, by currency, as text.
        totals: of each dataset whose windows were counted against control totals.
        segments: in which events are missing, the most first.
        worth: of the events of datasets in which some are missing.
        differences: what reconciliations had found.
        notes: what could not be asked, and what that leaves open.
    """

    incident_id: str
    revision: int
    strategy: Strategy
    as_of: datetime
    suspects: tuple[Suspect, ...] = ()
    rebuild: tuple[Affected, ...] = ()
    downstream: tuple[Affected, ...] = ()
    offsets: tuple[LostOffsets, ...] = ()
    first_lost: datetime | None = None
    last_lost: datetime | None = None
    money: tuple[tuple[str, str], ...] = ()
    totals: tuple[CountedTotals, ...] = ()
    segments: tuple[MissingSegment, ...] = ()
    worth: tuple[Worth, ...] = ()
    differences: tuple[KeyedRows, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def missing_at_least(self) -> int:
        """Events that are known to be missing."""
        return sum(suspect.missing or 0 for suspect in self.suspects)

    @property
    def missing_at_most(self) -> int | None:
        """Events that may be missing; None where nothing bounds them."""
        unknown = {suspect.dataset for suspect in self.suspects if suspect.missing is None}
        bound = 0
        for dataset in unknown:
            ranges = [one for one in self.offsets if one.dataset == dataset]
            if not ranges:
                return None
            bound += sum(one.records_at_most for one in ranges)
        return self.missing_at_least + bound

    def stakes(self) -> tuple[str, ...]:
        """Return what missing events are worth, each dataset in words; nothing where nobody says what one is worth."""
        missing: dict[str, int] = {}
        for one in self.suspects:
            missing[one.dataset] = missing.get(one.dataset, 0) + (one.missing or 0)
        return worth_told(self.worth, missing, "missing")

    def where(self, shown: int) -> tuple[str, ...]:
        """Return in which segments events of each dataset are missing, in words, so many of them."""
        return tuple(
            f"{name} by segment: {segments_told([one for one in self.segments if one.dataset == name], shown)}"
            for name in dict.fromkeys(one.dataset for one in self.segments)
        )

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of all datasets with a window in it."""
        named = [one.dataset for one in (*self.suspects, *self.rebuild, *self.downstream)]
        return tuple(dict.fromkeys(named))

    def counted(self) -> str:
        """Return the number of missing events in words, with what makes it exact or why it is not."""
        least, most = self.missing_at_least, self.missing_at_most
        if not any(suspect.missing is None for suspect in self.suspects):
            return f"{least:,} events, exactly: the producers' control totals less what is landed"
        bound = "nothing bounds them" if most is None else f"at most {most:,}, by the offsets that aged out"
        return f"at least {least:,} events; {bound} (no control totals for all of it)"


def segments_told(segments: Sequence[MissingSegment], shown: int) -> str:
    """Return in which segments events of one dataset are missing, in words, so many of them."""
    told = "; ".join(f"{one.segment}: {one.missing_at_most:,}" for one in segments[:shown])
    return told + (f"; and {len(segments) - shown} more" if len(segments) > shown else "")


def worth_told(worth: Iterable[Worth], events: Mapping[str, int], are: str) -> tuple[str, ...]:
    """Return what some events of each dataset are worth, in words.

    Args:
        events: how many there are, by dataset.
        are: what they are, like "missing".
    """
    found: dict[str, list[str]] = {}
    for one in worth:
        if number := events.get(one.dataset):
            found.setdefault(one.dataset, []).append(f"{one.of(number):,} {one.currency}".strip())
    return tuple(
        f"about {' + '.join(amounts)}: {events[name]:,} events of {name} {are}, at the mean worth of those published "
        "in the week before"
        for name, amounts in found.items()
    )


def downstream_of(catalog: Catalog, places: Iterable[tuple[str, TimeWindow]], until: datetime) -> tuple[Affected, ...]:
    """Return the windows of marts that are made from some windows of landed datasets, by the marts' reach.

    Args:
        until: days that begin then or later do not exist yet.
    """
    found: dict[tuple[str, datetime], str] = {}
    for dataset, window in places:
        for mart in catalog.downstream(dataset):
            for day in _days_changed_by(catalog, mart, window, until):
                reach = f", which reaches {mart.reach_days} days" if day.end <= window.start else ""
                found.setdefault((mart.name, day.start), f"made from {dataset} {window}{reach}")
    return tuple(Affected(name, TimeWindow.day_of(start), because) for (name, start), because in sorted(found.items()))


def _days_changed_by(catalog: Catalog, mart: MartContract, window: TimeWindow, until: datetime) -> Sequence[TimeWindow]:
    """An event of a day may change that day and as many days before it as the mart reaches."""
    first = TimeWindow.day_of(max(window.start, catalog.start)).start - mart.reach_days * DAY
    start = max(first, TimeWindow.day_of(catalog.start).start)
    end = min(window.end, until)
    if end <= start:
        return ()
    return [TimeWindow.day_of(day.start) for day in TimeWindow(start, end).split(DAY)]
