"""Contains incidents: intent first, then the effect, then its outcome; what died between is taken up again."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.holds import number_of, read_holds, release_holds
from incident_pipelines.adapters.stores.incidents import change_state, find_incident, read_incident, signals_of
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, read_timeline
from incident_pipelines.adapters.stores.incidents_work import (
    StoredAction,
    finish_action,
    intend_action,
    read_actions,
    retry_action,
    undo_action,
)
from incident_pipelines.adapters.stores.suspensions import suspensions
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IllegalTransition, IncidentConflict
from incident_pipelines.core.incidents.containment import (
    containment_of,
    is_due_again,
)
from incident_pipelines.core.incidents.containment_actions import (
    KINDS,
    ContainmentAction,
    action_from,
    described,
    is_ours_to_undo,
    target_of,
)
from incident_pipelines.core.incidents.incident import Actor, Incident, State
from incident_pipelines.stages.incidents.containment_course import ATTEMPTS, Containment, Course, told_of
from incident_pipelines.stages.incidents.containment_effects import OutOfReach, Surroundings, carry_out, undo

RELEASE_WAITS_SECONDS = 60.0

_CONTAINERS_LOCK = 0x1C1D_0005  # any constant of our own, beside the incident's number
_WORKED_ON: frozenset[State] = frozenset(
    {"contained", "scoped", "planned", "awaiting_approval", "waiting_for_cause", "recovering", "verifying"}
)


def contain_incident(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident_id: str,
    actor: Actor,
    now: datetime,
) -> Containment:
    """Do what keeps a detected incident from getting worse, and lead it to `contained`, or `escalated` if all failed.

    Of one that is contained already only that is done again which is wrong again. A stopped incident is left alone, in
    mode `observe` every one. Safe to be called at any time, by several at once.

    Args:
        environment: KAFKA_BOOTSTRAP_SERVERS, WAREHOUSE_URL and the supervisor's address.
        now: aware.

    Raises:
        UnknownIncident: there is none of that id.
        SourceUnavailable: the control database does not answer; what was begun is taken up by the next call.
    """
    with _alone(control, incident_id) as is_alone:
        course = _course(control, catalog, incident_id, now)
        state = course.incident.state
        unwanted = course.incident.stopped_at is not None or catalog.mode == "observe"
        if not is_alone or unwanted or (state != "detected" and state not in _WORKED_ON):
            return course.result(state)
        around = Surroundings(warehouse, catalog, environment, now)
        for action in (*course.choice.actions, *_left_over(course, catalog)):
            key = _begin(control, course, action, actor, now)
            if key is not None:
                _do(control, course, action, key, actor, around)
        course.waiting += [f"{described(one)} (its watch is suspended)" for one in course.choice.suspended]
        if state != "detected" or course.waiting:
            return course.result(state)
        failpoint("contain.before_state")
        return course.result(_conclude(control, course, actor, now))


def release_containment(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident_id: str,
    actor: Actor,
    now: datetime,
) -> Containment:
    """Let go of the windows that an incident recovers, and undo what contained it, the last first.

    What was to be published has been published before. Retention and landers stay as they are. What cannot be undone
    now is left for the next call.

    Raises:
        UnknownIncident: there is none of that id.
        IncidentConflict: somebody else is at it, and does not end.
        SourceUnavailable: a database does not answer.
    """
    around = Surroundings(warehouse, catalog, environment, now)
    done: list[str] = []
    failed: list[str] = []
    with _alone(control, incident_id, RELEASE_WAITS_SECONDS) as is_alone:
        if not is_alone:
            raise IncidentConflict(f"{incident_id} is being contained; its containment is not undone yet")
        with _control(control) as connection:
            state = read_incident(connection, incident_id).state
            open_ones = [one for one in read_actions(connection, incident_id) if _is_to_undo(one)]
        with available("warehouse"), warehouse.begin() as connection:
            if released := release_holds(connection, incident_id, ("recovery",)):
                done.append(f"{released} spans of windows let go of, which it has recovered")
        failpoint("recover.released")
        if not open_ones:
            return Containment(incident_id, state, tuple(done))
        with _control(control) as connection:
            told = f"containment is being undone: {len(open_ones)} actions, the last first"
            append_entry(connection, incident_id, NewEntry("noted", actor, told, now))
        failpoint("release.intended")
        for known in reversed(open_ones):
            action = action_from(known.kind, known.target)
            assert action is not None
            try:
                told = undo(action, known.key, incident_id, around)
            except Exception as error:  # whatever it is, the others are undone
                failed.append(f"{described(action)}: not undone: {_first_line(error)}")
                continue
            failpoint("release.undone")
            with _control(control) as connection:
                if known.state == "done":
                    undo_action(connection, known.key, actor, told, now)
                else:
                    outcome = {**(known.outcome or {}), "told": told, "released": True}
                    told = f"was not done to its end; undone all the same: {told}"
                    finish_action(connection, known.key, "failed", outcome, actor, told, now)
            done.append(told)
    return Containment(incident_id, state, tuple(done), tuple(failed))


def _course(control: Engine, catalog: Catalog, incident_id: str, now: datetime) -> Course:
    with _control(control) as connection:
        incident = read_incident(connection, incident_id)
        signals = signals_of(connection, incident_id)
        detections = [one.at for one in read_timeline(connection, incident_id) if one.state_to == "detected"]
        return Course(
            incident,
            signals,
            containment_of(incident, signals, catalog, catalog.mode, now, suspensions(connection, now)),
            read_actions(connection, incident_id),
            len(detections),
            detections[-1],
        )


def _left_over(course: Course, catalog: Catalog) -> list[ContainmentAction]:
    """Return what was intended by a call that died, and is not chosen any more: it may have been done."""
    chosen = {*course.choice.actions, *course.choice.forbidden, *course.choice.suspended}
    intended = [action_from(one.kind, one.target) for one in course.actions if one.state == "intended"]
    return [
        action
        for action in intended
        if action and action not in chosen and (catalog.mode == "act" or is_ours_to_undo(action))
    ]


def _begin(control: Engine, course: Course, action: ContainmentAction, actor: Actor, now: datetime) -> str | None:
    """Commit the intent of an action and return its key; None if it is not to be done now."""
    incident = course.incident
    known = course.latest(action)
    again = known is not None and known.state == "done" and is_due_again(action, known.intended_at, course.signals)
    if known is None or known.state == "undone" or again:
        if incident.state != "detected" and not again:
            return None
        key = course.new_key(action)
        with _control(control) as connection:
            if not _is_wanted(connection, incident):
                course.waiting.append(described(action))
                return None
            target = target_of(action)
            intend_action(
                connection, incident.incident_id, key, KINDS[type(action)], target, actor, described(action), now
            )
        failpoint("contain.intended")
        return key
    match known.state:
        case "done":
            course.stands.append(told_of(known, action))
            return None
        case "failed" if course.is_given_up(known):
            course.give_up(known, told_of(known, action))
            return None
        case "failed" if course.is_paused(known, now):
            course.waiting.append(f"{told_of(known, action)}; attempt {known.attempts} of {ATTEMPTS} has failed")
            return None
        case _:
            with _control(control) as connection:
                if not _is_wanted(connection, incident) or retry_action(connection, known.key) is None:
                    course.waiting.append(described(action))
                    return None
            failpoint("contain.intended")
            return known.key


def _do(
    control: Engine, course: Course, action: ContainmentAction, key: str, actor: Actor, around: Surroundings
) -> None:
    incident_id = course.incident.incident_id
    try:
        effect = carry_out(action, key, incident_id, around)
    except Exception as error:  # whatever it is, the other actions go on
        told = f"could not {described(action)}: {_first_line(error)}"
        outcome = {"told": told, "out_of_reach": isinstance(error, OutOfReach)}
        with _control(control) as connection:
            finish_action(connection, key, "failed", outcome, actor, told, around.now)
            (known,) = [one for one in read_actions(connection, incident_id) if one.key == key]
        course.failed.append(told)
        if course.is_given_up(known):
            course.give_up(known, told)
        else:
            course.waiting.append(told)
        return
    failpoint("contain.done")
    outcome = {"told": effect.told, **effect.outcome}
    with _control(control) as connection:
        finish_action(connection, key, "done", outcome, actor, effect.told, around.now, effect.undo)
    failpoint("contain.finished")
    course.done.append(effect.told)
    course.stands.append(effect.told)


def _conclude(control: Engine, course: Course, actor: Actor, now: datetime) -> State:
    """Lead the incident on, unless it has grown or was stopped meanwhile; return its state."""
    incident = course.incident
    in_vain = course.given_up or (course.for_people and not course.choice.forbidden)
    all_failed = bool(in_vain) and not course.stands
    parts = [
        course.choice.nothing_because and f"nothing to contain: {course.choice.nothing_because}",
        course.stands and f"contained: {'; '.join(course.stands)}",
        course.choice.forbidden and f"not allowed by the mode: {'; '.join(map(described, course.choice.forbidden))}",
        course.for_people and f"for people to do: {'; '.join(course.for_people)}",
        course.given_up and f"failed: {'; '.join(course.given_up)}",
    ]
    told = ". ".join(part for part in parts if part)
    target: State = "escalated" if all_failed else "contained"
    detail: dict[str, Any] = {
        "done": course.stands,
        "forbidden": [described(one) for one in course.choice.forbidden],
        "for_people": course.for_people,
        "failed": course.given_up,
    }
    try:
        with _control(control) as connection:
            change_state(
                connection,
                incident.incident_id,
                "detected",
                target,
                actor,
                told,
                now,
                detail=detail,
                revision=incident.revision,
            )
    except (IncidentConflict, IllegalTransition):
        return "detected"
    return target


def _is_wanted(connection: Connection, seen: Incident) -> bool:
    """Whether the incident is still to be acted on; it stays so until the transaction ends."""
    incident = find_incident(connection, seen.incident_id)
    return incident.state == seen.state and incident.stopped_at is None


def is_still_contained(control: Engine, warehouse: Engine, incident_id: str) -> bool:
    """Return whether an incident still holds windows, or something that contained it has not been undone yet.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    with _control(control) as connection:
        if any(map(_is_to_undo, read_actions(connection, incident_id))):
            return True
    with available("warehouse"), warehouse.connect() as connection:
        return bool(read_holds(connection, incident_id))


def _is_to_undo(known: StoredAction) -> bool:
    if known.kind not in KINDS.values() or known.state == "undone":
        return False
    return known.state != "failed" or not (known.outcome or {}).get("released")


def _first_line(error: Exception) -> str:
    """What follows the first line of a database's answer may quote data."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _control(control: Engine) -> Iterator[Connection]:
    with available("control database"), control.begin() as connection:
        yield connection


@contextmanager
def _alone(control: Engine, incident_id: str, wait_seconds: float = 0) -> Iterator[bool]:
    """Say whether nobody else contains the incident, and keep others from it meanwhile."""
    with available("control database"), control.begin() as connection:
        lock = text("SELECT pg_try_advisory_xact_lock(:lock, :number)")
        values = {"lock": _CONTAINERS_LOCK, "number": number_of(incident_id)}
        until = time.monotonic() + wait_seconds
        while not (is_alone := connection.execute(lock, values).scalar_one()) and time.monotonic() < until:
            time.sleep(0.2)
        yield is_alone
