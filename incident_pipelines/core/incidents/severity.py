"""How grave an incident is, and what that asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

IncidentSeverity = Literal["P0", "P1", "P2", "P3"]
SEVERITIES: tuple[IncidentSeverity, ...] = get_args(IncidentSeverity)
_SATURDAY = 5


@dataclass(frozen=True)
class Obligation:
    """What an incident of some severity asks of people (SPEC §7).

    Args:
        respond_within: from detection to acknowledgement; counted in business days where `business_days` is set.
        postmortem_within: from resolution; None where none is required.
    """

    meaning: str
    respond_within: timedelta
    notify: str
    postmortem: str
    postmortem_within: timedelta | None = None
    business_days: bool = False


OBLIGATIONS: Mapping[IncidentSeverity, Obligation] = {
    "P0": Obligation(
        "breach, major loss, or corruption that decisions are made on",
        timedelta(minutes=15),
        "page on-call and executives",
        "within 48 h",
        timedelta(hours=48),
    ),
    "P1": Obligation(
        "pipeline down, critical data corrupt, or contract broken upstream",
        timedelta(hours=1),
        "page on-call",
        "within 1 week",
        timedelta(weeks=1),
    ),
    "P2": Obligation(
        "quality issue in internal reports, or drift that does not break",
        timedelta(hours=4),
        "message to the data team",
        "optional",
    ),
    "P3": Obligation("small inconsistency, no impact now", timedelta(days=1), "ticket", "no", business_days=True),
}

_OF_SIGNALS: Mapping[str, IncidentSeverity] = {"critical": "P0", "page": "P1", "warning": "P2", "info": "P3"}


@dataclass(frozen=True)
class Impact:
    """The answers that the decision tree asks for, in its order."""

    breach: bool = False
    decisions_affected: bool = False
    pipeline_down: bool = False
    contract_broken: bool = False
    quality_degraded: bool = False


def severity_of_signal(severity: str) -> IncidentSeverity:
    """Return what a signal's severity (critical, page, warning, info) means for an incident; an unknown one is P2."""
    return _OF_SIGNALS.get(severity, "P2")


def severity_of_impact(impact: Impact) -> IncidentSeverity:
    """Return the decision tree's verdict (SPEC §7)."""
    if impact.breach or impact.decisions_affected:
        return "P0"
    if impact.pipeline_down or impact.contract_broken:
        return "P1"
    return "P2" if impact.quality_degraded else "P3"


def graver(*severities: IncidentSeverity) -> IncidentSeverity:
    """Return the gravest of some severities."""
    return min(severities, key=SEVERITIES.index)


def respond_by(severity: IncidentSeverity, detected_at: datetime) -> datetime:
    """Return until when somebody has to have acknowledged; business days are Monday to Friday, UTC."""
    obligation = OBLIGATIONS[severity]
    due = detected_at.astimezone(UTC) + obligation.respond_within
    if obligation.business_days:
        while due.weekday() >= _SATURDAY:
            due += timedelta(days=1)
    return due


def postmortem_due(severity: IncidentSeverity, resolved_at: datetime) -> datetime | None:
    """Return until when the postmortem has to be there; None if none is required."""
    within = OBLIGATIONS[severity].postmortem_within
    return None if within is None else resolved_at + within
