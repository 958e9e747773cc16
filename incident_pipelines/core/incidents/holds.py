"""Windows that an incident keeps others from publishing, and which incident may publish where several hold one."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from incident_pipelines.core.catalog import END_OF_TIME
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow

HoldKind = Literal["pause", "quarantine", "recovery"]
"""pause: what it is made from is wrong; quarantine: it is wrong itself; recovery: an incident is bringing it back."""
HOLD_KINDS: tuple[HoldKind, ...] = get_args(HoldKind)

Place = tuple[str, TimeWindow]
"""(dataset, windows of it)."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A span of a dataset's windows that an incident holds.

    Args:
        window: every window of the dataset that overlaps it is held.
        number: of the incident; the lower one was opened first.
    """

    hold_id: int
    dataset: str
    window: TimeWindow
    incident_id: str
    number: int
    kind: HoldKind
    reason: str
    held_at: datetime

    def overlaps(self, dataset: str, window: TimeWindow) -> bool:
        """Whether it holds some of these windows."""
        return self.dataset == dataset and self.window.overlaps(window)


def publisher_of(holds: Iterable[Hold]) -> Hold | None:
    """Return the hold whose incident alone may publish a window; None where everybody may.

    The one that recovers it, of several the last, to which the others have given way; and else the one that was opened
    first. So there is always exactly one.

    Args:
        holds: all that overlap the window.
    """
    return min(
        holds,
        key=lambda hold: (0, -hold.hold_id) if hold.kind == "recovery" else (1, hold.number),
        default=None,
    )


def in_the_way(wanted: HoldKind, number: int, holds: Iterable[Hold]) -> Hold | None:
    """Return a hold that keeps an incident from holding the same window.

    A recovery waits for whoever recovers the window already, and for incidents opened before it: could it go first,
    it would publish what they have found wrong. Those wait for nobody, so that one always goes on.

    Args:
        wanted: what the incident wants to hold it for.
        number: of the incident.
        holds: all that overlap the window.
    """
    if wanted != "recovery":
        return None
    others = [hold for hold in holds if hold.number != number and (hold.kind == "recovery" or hold.number < number)]
    return publisher_of(others)


def may_overlap(span: TimeWindow, *, days: bool) -> tuple[TimeWindow, ...]:
    """Return the windows of a dataset that overlap a span.

    Args:
        days: its windows are days; else hours, or all of it is one.
    """
    if span.end == END_OF_TIME:
        return (span,)
    window_of = TimeWindow.day_of if days else TimeWindow.hour_of
    parts = TimeWindow(window_of(span.start).start, span.end).split(DAY if days else HOUR)
    return tuple(window_of(part.start) for part in parts)


def joined(places: Iterable[Place]) -> list[Place]:
    """Return the same spans, those of one dataset that touch or overlap as one."""
    spans: list[Place] = []
    for dataset, span in sorted(set(places)):
        if spans and spans[-1][0] == dataset and span.start <= spans[-1][1].end:
            last = spans.pop()[1]
            span = TimeWindow(last.start, max(last.end, span.end))
        spans.append((dataset, span))
    return spans


def overlap(places: Collection[Place], others: Iterable[Place]) -> bool:
    """Return whether any window of the ones overlaps one of the others."""
    return any(name == dataset and window.overlaps(of) for dataset, of in others for name, window in places)


def told(hold: Hold, dataset: str, window: TimeWindow) -> str:
    """Return why a window cannot be published or held now, and what to do."""
    what = {
        "pause": "paused",
        "quarantine": "quarantined",
        "recovery": "being recovered",
    }[hold.kind]
    return (
        f"{dataset} {window.start.isoformat()} is {what} by {hold.incident_id} ({hold.reason}); only that incident "
        f"publishes it until it is over: `incident-pipelines incident show {hold.incident_id}`"
    )
