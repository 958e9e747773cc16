"""What people do to incidents, shared by the command line and the console: each call is one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import (
    change_state,
    find_incident,
    insert_incident,
    read_incidents,
    set_acknowledged,
    set_resumed,
    set_stopped,
    signals_of,
)
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, entry_of_state
from incident_pipelines.adapters.stores.incidents_work import (
    StoredPlan,
    add_action_item,
    approve_plan,
    finish_action_item,
    latest_plan,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IllegalTransition, IncidentConflict, IncidentPipelinesError
from incident_pipelines.core.incidents.causes import REPORTED, impact_of
from incident_pipelines.core.incidents.incident import Actor, Incident, IncidentType, RaisedSignal, State
from incident_pipelines.core.incidents.reported import affected_by
from incident_pipelines.core.incidents.severity import IncidentSeverity, graver, severity_of_impact
from incident_pipelines.core.windows import TimeWindow


@dataclass(frozen=True)
class Report:
    """What a person says is wrong.

    Args:
        severity: what the person thinks; the decision tree's counts if that is higher.
        since: when it began; None where that is not known.
        window: of the data that is affected.
    """

    type: IncidentType
    title: str
    datasets: tuple[str, ...]
    severity: IncidentSeverity | None = None
    since: datetime | None = None
    window: TimeWindow | None = None
    decisions_affected: bool = False


def open_incident(control: Engine, catalog: Catalog, report: Report, actor: Actor, now: datetime) -> Incident:
    """Open an incident that a person reports.

    Raises:
        IncidentPipelinesError: a dataset is not in the catalog, or the times cannot be.
    """
    known = (*catalog.landed, *catalog.marts)
    for name in report.datasets:
        if name not in known:
            raise IncidentPipelinesError(f"dataset {name!r} is not in the catalog; one of {', '.join(known)}")
    if report.since is not None and report.since > now:
        raise IncidentPipelinesError(f"it cannot have begun at {report.since.isoformat()}, which is in the future")
    title = _required(report.title, "a title")
    published = report.decisions_affected or any(name in catalog.marts for name in report.datasets)
    verdict = severity_of_impact(impact_of(report.type, published))
    new = Incident(
        incident_id="",
        type=report.type,
        cause=REPORTED,
        severity=graver(verdict, report.severity or verdict),
        state="detected",
        title=title,
        source="person",
        datasets=affected_by(catalog, report.type, report.datasets),
        window=report.window,
        began_at=report.since or now,
        detected_at=now,
        opened_at=now,
    )
    with _changing(control) as connection:
        return insert_incident(connection, new, actor, f"opened by {actor}: {title}", now)


def acknowledge(control: Engine, incident_id: str, actor: Actor, now: datetime) -> Incident:
    """Take an incident on: stops the clock of the response, and makes the first person its commander."""
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        if not seen.is_open:
            raise IllegalTransition(f"{incident_id} is {seen.state} already; there is nothing to acknowledge")
        if seen.acknowledged_at is None or seen.commander is None:
            set_acknowledged(connection, incident_id, actor, now)
            took = "" if seen.commander else f"; {actor.name} is the commander"
            append_entry(connection, incident_id, NewEntry("acknowledged", actor, f"acknowledged{took}", now))
        return find_incident(connection, incident_id)


def note(control: Engine, incident_id: str, text: str, actor: Actor, now: datetime) -> Incident:
    """Write a note into the timeline; possible at any time, also after the end."""
    with _changing(control) as connection:
        find_incident(connection, incident_id)
        append_entry(connection, incident_id, NewEntry("noted", actor, _required(text, "a note"), now))
        return find_incident(connection, incident_id)


def approve(
    control: Engine, incident_id: str, actor: Actor, now: datetime, digest: str | None = None
) -> tuple[StoredPlan, Incident]:
    """Agree to the plan that was made last, and return it and the incident.

    Args:
        digest: first characters of the digest that the person has seen; None agrees to the latest plan.

    Raises:
        IncidentConflict: there is no plan, or another one than the person has seen.
        IllegalTransition: the incident is past it.
    """
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        plan = latest_plan(connection, incident_id)
        if plan is None:
            raise IncidentConflict(f"{incident_id} has no plan yet; it is {seen.state}")
        if digest is not None and not (digest and plan.digest.startswith(digest)):
            raise IncidentConflict(f"the plan of {incident_id} is {plan.digest[:12]} by now, not {digest}; look again")
        if plan.revision != seen.revision:
            raise IncidentConflict(f"more is affected than plan {plan.digest[:12]} of {incident_id} was made for")
        if seen.state not in ("planned", "awaiting_approval"):
            raise IllegalTransition(f"{incident_id} is {seen.state}: its plan waits for no approval now")
        if not approve_plan(connection, plan, actor, now):
            return plan, seen
        if seen.state == "awaiting_approval":
            told = f"plan {plan.digest[:12]} may be carried out"
            change_state(connection, incident_id, "awaiting_approval", "planned", actor, told, now)
        return replace(plan, approved_at=now, approved_by=str(actor)), find_incident(connection, incident_id)


def stop(control: Engine, incident_id: str, because: str, actor: Actor, now: datetime) -> Incident:
    """Forbid the system to act on an incident, in whatever state; what runs ends at its next step."""
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        if not seen.is_open:
            raise IllegalTransition(f"{incident_id} is {seen.state}; nothing acts on it any more")
        if seen.stopped_at is None:
            reason = _required(because, "a reason")
            set_stopped(connection, incident_id, actor, reason, now)
            append_entry(
                connection, incident_id, NewEntry("stopped", actor, f"stopped while {seen.state}: {reason}", now)
            )
        return find_incident(connection, incident_id)


def resume(control: Engine, incident_id: str, actor: Actor, now: datetime) -> Incident:
    """Let the system act again: on one that was stopped where it was, on an escalated one from the beginning."""
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        if seen.stopped_at is None and seen.state != "escalated":
            raise IllegalTransition(f"{incident_id} is {seen.state}; it is neither stopped nor escalated")
        if seen.stopped_at is not None:
            set_resumed(connection, incident_id)
            append_entry(connection, incident_id, NewEntry("resumed", actor, f"resumed, {seen.state}", now))
        if seen.state == "escalated":
            told = "taken up again: to be contained and scoped afresh"
            change_state(connection, incident_id, "escalated", "detected", actor, told, now)
        return find_incident(connection, incident_id)


def resolve(control: Engine, incident_id: str, because: str, actor: Actor, now: datetime) -> Incident:
    """Close an incident by a person's word and not by proof: a false alarm, or repaired by other means."""
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        told = f"closed by hand, not proven by the system: {_required(because, 'a reason')}"
        change_state(connection, incident_id, seen.state, "resolved", actor, told, now)
        return find_incident(connection, incident_id)


def review(control: Engine, incident_id: str, text: str, actor: Actor, now: datetime) -> Incident:
    """Close the review of a resolved incident."""
    with _changing(control) as connection:
        seen = find_incident(connection, incident_id)
        told = _required(text, "what came out of the review")
        change_state(connection, incident_id, seen.state, "reviewed", actor, told, now)
        return find_incident(connection, incident_id)


def add_item(
    control: Engine, incident_id: str, text: str, owner: str, due: date | None, actor: Actor, now: datetime
) -> int:
    """Write down an action item and return its number."""
    with _changing(control) as connection:
        find_incident(connection, incident_id)
        return add_action_item(
            connection,
            incident_id,
            _required(text, "what is to be done"),
            _required(owner, "an owner"),
            due,
            actor,
            now,
        )


def finish_items(control: Engine, incident_id: str, items: Sequence[int], actor: Actor, now: datetime) -> None:
    """Note that action items are done; all of them or none.

    Raises:
        IncidentPipelinesError: one is not there, or done already.
    """
    with _changing(control) as connection:
        find_incident(connection, incident_id)
        for item in items:
            if not finish_action_item(connection, incident_id, item, actor, now):
                raise IncidentPipelinesError(f"{incident_id} has no open action item {item}")


@dataclass(frozen=True)
class OpenIncident:
    """An incident that is worked on.

    Args:
        since_entry: number of the timeline's entry that led it to its state.
    """

    incident: Incident
    signals: tuple[RaisedSignal, ...]
    since_entry: int


def open_incidents(control: Engine) -> list[OpenIncident]:
    """Return what is open, in the order in which it was opened.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with _changing(control) as connection:
        return [
            OpenIncident(
                one, tuple(signals_of(connection, one.incident_id)), entry_of_state(connection, one.incident_id).number
            )
            for one in read_incidents(connection, only_open=True)
        ]


def escalate(control: Engine, incident_id: str, state: State, because: str, actor: Actor, now: datetime) -> None:
    """Give an incident to people: the system cannot go on.

    Raises:
        IncidentConflict: it is in another state by now; nothing was changed.
    """
    with _changing(control) as connection:
        change_state(connection, incident_id, state, "escalated", actor, because, now)


@contextmanager
def _changing(control: Engine) -> Iterator[Connection]:
    with available("control database"), control.begin() as connection:
        yield connection


def _required(text: str, what: str) -> str:
    if not text.strip():
        raise IncidentPipelinesError(f"{what} is needed")
    return text.strip()
