"""What happens next to an incident, and what is asked of whoever reads it."""

from datetime import datetime
from typing import assert_never

from incident_pipelines.core.incidents.causes import CAUSES
from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.response_times import duration_text
from incident_pipelines.core.incidents.severity import OBLIGATIONS, postmortem_due, respond_by


def next_steps(incident: Incident, mode: Mode, now: datetime, *, planned: bool) -> tuple[str, ...]:
    """Return what is to be done, the first thing first, with the command for it.

    Args:
        planned: a plan has been made.
    """
    command = "incident-pipelines incident"
    steps: list[str] = []
    if incident.is_open and incident.acknowledged_at is None:
        due = respond_by(incident.severity, incident.detected_at)
        left = f"{duration_text(due - now)} left" if due >= now else f"{duration_text(now - due)} overdue"
        steps.append(f"`{command} ack {incident.incident_id}` until {due:%Y-%m-%d %H:%M} UTC ({left})")
    if incident.stopped_at is not None:
        steps.append(f"stopped: the system does nothing until `{command} resume {incident.incident_id}`")
    elif mode == "observe" and incident.is_open:
        steps.append(
            "mode observe: the system only watches; follow the runbook, then "
            f"`{command} resolve {incident.incident_id} --because TEXT`"
        )
    else:
        steps.append(_of_state(incident, planned, command))
    return tuple(steps)


def _of_state(incident: Incident, planned: bool, command: str) -> str:
    incident_id = incident.incident_id
    match incident.state:
        case "detected":
            first = next((rule.contained_by for rule in CAUSES.values() if rule.cause == incident.cause), None)
            if first is None:
                return "containment, before anything is investigated: nothing is known to contain this by itself"
            return f"containment, before anything is investigated: {first}"
        case "contained":
            return "its scope: which windows, offsets, rows and money exactly"
        case "scoped":
            return "a plan: for each window the first source that still has it"
        case "planned":
            return f"recovery by its plan; `{command} plan {incident_id}` shows it"
        case "awaiting_approval":
            look = f"look at it (`{command} plan {incident_id}`), then " if planned else ""
            return f"{look}`{command} approve {incident_id}` or `{command} stop {incident_id} --because TEXT`"
        case "waiting_for_cause":
            return "the window stays quarantined until what broke it is gone; then recovery goes on by itself"
        case "recovering":
            return f"recovery is running; `{command} stop {incident_id} --because TEXT` ends it at its next step"
        case "verifying":
            return "proof on the exact scope: compared again, checks, and a second run that changes nothing"
        case "recovered":
            return (
                "it resolves by itself when the exit criteria have held for 30 minutes; the timeline tells what waits "
                "for a person: landing that has stopped goes on with `incident-pipelines landing resume`"
            )
        case "resolved":
            due = incident.resolved_at and postmortem_due(incident.severity, incident.resolved_at)
            until = f" until {due:%Y-%m-%d %H:%M} UTC" if due else ""
            wanted = OBLIGATIONS[incident.severity].postmortem
            return f"postmortem ({wanted}){until}, then `{command} review {incident_id} --note TEXT`"
        case "reviewed":
            return "nothing: it is closed and reviewed"
        case "escalated":
            return (
                "the system has given up; by the runbook, then either "
                f"`{command} resume {incident_id}` (the system begins again) or "
                f"`{command} resolve {incident_id} --because TEXT`"
            )
        case _:
            assert_never(incident.state)
