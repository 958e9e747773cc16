"""How much a recovery may do, and how fast."""

from dataclasses import dataclass
from datetime import timedelta

SHARE_OF_PEAK = 0.1
"""SPEC §7: a replay takes at most a tenth of what landing was measured to take."""

MAX_FAILED_SHARE = 0.02
"""SPEC §7: a replay stops when more than two in a hundred events break their contract."""

FAILURES_COUNT_FROM = 100
"""Of fewer events one or two that fail say nothing."""

MAX_ATTEMPTS = 3
"""Of a run that fails, and of plans for one revision of an incident; then a person is asked."""

AGAIN_AFTER = timedelta(seconds=30)
AGAIN_AFTER_AT_MOST = timedelta(minutes=10)

SLACK_EVENTS = 10_000
"""A source may have more than anybody declared: late events, and events of the edges of a window."""


@dataclass(frozen=True)
class Guardrails:
    """What a plan is held to.

    Args:
        events_per_second: over all recoveries; None: as fast as it goes.
        events_at_most: that the plan may append in all, crashes included.
    """

    events_per_second: float | None
    events_at_most: int


def guardrails(planned_events: int, capacity: float | None) -> Guardrails:
    """Return what a plan is held to.

    Args:
        planned_events: the most it says it will replay.
        capacity: events a second that landing was measured to take; None lets it go as fast as it can.
    """
    rate = None if capacity is None else capacity * SHARE_OF_PEAK
    return Guardrails(rate, planned_events + planned_events // 10 + SLACK_EVENTS)


def fails_too_often(events: int, failed: int) -> bool:
    """Whether a replay has to stop."""
    return events >= FAILURES_COUNT_FROM and failed > MAX_FAILED_SHARE * events


def pause_after(runs: int) -> timedelta:
    """Return how long to wait after a run that has not led on, because it failed or has to wait for somebody else.

    Each pause is twice the one before it, up to ten minutes.

    Args:
        runs: that there were of the same step, at least 1.
    """
    doublings = min(runs - 1, 10)  # far past the longest pause
    return min(AGAIN_AFTER * 2**doublings, AGAIN_AFTER_AT_MOST)
