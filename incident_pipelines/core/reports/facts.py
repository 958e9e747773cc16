"""What reports are made from: everything that is known of an incident at one instant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import fmean

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.response_times import MeanTimes, ResponseTime, mean_times
from incident_pipelines.core.incidents.scope import Scope
from incident_pipelines.core.incidents.timeline import Entry
from incident_pipelines.core.incidents.triage import Audience, Triage
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.recovery.plan import RecoveryPlan
from incident_pipelines.core.recovery.proof import Proof


@dataclass(frozen=True)
class Effect:
    """Something that was done, or tried, outside of the control database."""

    what: str
    state: str
    at: datetime
    told: str


@dataclass(frozen=True)
class Promise:
    """An action item."""

    number: int
    what: str
    owner: str
    due: date | None
    done: bool


@dataclass(frozen=True)
class MadePlan:
    """A plan and who agreed to it."""

    plan: RecoveryPlan
    digest: str
    made_at: datetime
    approved_by: str | None


@dataclass(frozen=True)
class Salvage:
    """Unfinished cases that were completed by the application's own call.

    Args:
        tried: for how many it was called.
    """

    completed: int = 0
    tried: int = 0


@dataclass(frozen=True)
class ReportedMart:
    """A mart whose numbers are reported for good when their month is over.

    Args:
        owner: decides what is said about them.
        inputs: datasets that it is made from.
    """

    name: str
    owner: str
    consumers: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """What earlier incidents tell.

    Args:
        of_cause: incidents of the same class of cause, this one among them.
        observed: since the first incident of all.
        mttm_seconds: mean of contained minus detected; None where none was contained.
    """

    of_cause: int
    observed: timedelta
    means: MeanTimes
    mttm_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """Everything about one incident, of one instant.

    Args:
        told: owners and consumers of what is affected.
        steps: what happens next, in Markdown of our own.
        tampered: what is wrong with the timeline.
        reported: marts that close, over the whole catalog.
        consumers: owner and consumers of each dataset of the catalog.
    """

    incident: Incident
    signals: tuple[RaisedSignal, ...]
    entries: tuple[Entry, ...]
    tampered: tuple[str, ...]
    told: tuple[Audience, ...]
    answers: Triage
    times: tuple[ResponseTime, ...]
    steps: tuple[str, ...]
    runbooks: tuple[str, ...]
    plan: MadePlan | None
    effects: tuple[Effect, ...]
    promises: tuple[Promise, ...]
    scope: Scope | None
    proof: Proof | None
    loss: LossStatement | None
    reported: tuple[ReportedMart, ...]
    history: History
    salvage: Salvage
    mode: Mode
    as_of: datetime

    @property
    def datasets(self) -> tuple[str, ...]:
        """What is affected, as exactly as is known."""
        return self.scope.datasets if self.scope and self.scope.datasets else self.incident.datasets


def reported_marts(catalog: Catalog) -> tuple[ReportedMart, ...]:
    """Return the marts of a catalog whose numbers are reported for good."""
    return tuple(
        ReportedMart(name, mart.contract.owner, mart.contract.consumers, mart.contract.inputs)
        for name, mart in catalog.marts.items()
        if mart.contract.closes_monthly
    )


def history_of(incident: Incident, incidents: Iterable[Incident], as_of: datetime) -> History:
    """Return what all incidents tell about one of them."""
    known = list(incidents) or [incident]
    contained = [
        max((one.contained_at - one.detected_at).total_seconds(), 0.0) for one in known if one.contained_at is not None
    ]
    return History(
        max(sum(one.cause == incident.cause for one in known), 1),
        as_of - min(one.detected_at for one in known),
        mean_times(known),
        fmean(contained) if contained else None,
    )


def groups_of(told: Sequence[Audience]) -> Mapping[str, tuple[Audience, ...]]:
    """Return for each group of people, owner or consumer, the datasets that they have to know about."""
    found: dict[str, list[Audience]] = {}
    for one in told:
        for group in dict.fromkeys((one.owner, *one.consumers)):
            found.setdefault(group, []).append(one)
    return {group: tuple(ones) for group, ones in found.items()}
