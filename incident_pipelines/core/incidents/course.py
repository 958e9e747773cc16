"""What the system does next about an open incident by itself, or what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from incident_pipelines.core.incidents.causes import rule_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.scope import strategy_of

HELD_FOR = timedelta(minutes=30)
"""SPEC §7: exit criteria have to hold so long before a recovered incident is resolved."""

Next = Literal["run", "release", "look_for_cause", "look_at_exit", "look_at_others", "wait"]


@dataclass(frozen=True)
class Course:
    """What is next.

    Args:
        why: for whoever looks at the sensor.
    """

    next: Next
    why: str


def course_of(incident: Incident, signals: Sequence[RaisedSignal], mode: Mode, now: datetime) -> Course:
    """Return what is next about an incident.

    Args:
        signals: of the incident.
        now: aware.
    """
    if incident.stopped_at is not None:
        return Course("wait", f"stopped by {incident.stopped_by}")
    if mode == "observe":
        return Course("wait", "mode observe")
    match incident.state:
        case "contained":
            lasting = [one for one in signals if rule_of(one.kind).clears and one.cleared_at is None]
            if strategy_of(incident.cause, incident.type) in ("watch", "catch_up") and lasting:
                return Course("wait", f"{len(lasting)} signals last; it is over when they are")
            return Course("run", "to be scoped")
        case "scoped" | "planned" | "recovering" | "verifying":
            return Course("run", incident.state)
        case "waiting_for_cause":
            return Course("look_for_cause", "the windows wait for their inputs or their SQL to change")
        case "awaiting_approval":
            return Course("wait", "a person has to approve")
        case "recovered":
            held = incident.recovered_at is not None and now - incident.recovered_at >= HELD_FOR
            return Course("look_at_exit" if held else "release", "recovered; the exit criteria have to hold")
        case "escalated":
            return Course("look_at_others", incident.state)
        case "detected" | "resolved" | "reviewed":
            return Course("wait", incident.state)
