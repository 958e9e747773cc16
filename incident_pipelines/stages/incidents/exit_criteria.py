"""Leads incidents out of waiting: for their cause, when that has changed; as recovered, when it has held."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.stores.incidents import change_state, read_incident, signals_of
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, read_timeline
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.adapters.stores.landing_offsets import landing_offsets
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import rule_of
from incident_pipelines.core.incidents.course import HELD_FOR
from incident_pipelines.core.incidents.incident import Actor, Incident, State
from incident_pipelines.core.incidents.joining import datasets_of
from incident_pipelines.core.incidents.timeline import clean
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.stages.recovery.window_causes import window_causes

INPUTS_AFTER = timedelta(minutes=10)
"""New inputs alone seldom mend what was refused: they are worth a try at most this often; new SQL at once."""

TRIED_AFTER = timedelta(hours=6)
"""What has changed may have done so before it was looked at: what waits is tried so often whatever is seen."""

MAX_DEAD_LETTER_SHARE = 0.001
"""SPEC §7: exit criteria."""


def look_for_cause(
    control: Engine, warehouse: Engine, catalog: Catalog, incident_id: str, actor: Actor, now: datetime
) -> State:
    """Lead an incident that waits for its cause back to `planned` if the cause may be gone; return its state.

    Args:
        catalog: as it is now: SQL that was deployed since is in it.

    Raises:
        SourceUnavailable: a database does not answer; nothing was changed.
    """
    with available("control database"), control.connect() as connection:
        incident = read_incident(connection, incident_id)
        plan = latest_plan(connection, incident_id)
        waiting = [one for one in read_timeline(connection, incident_id) if one.state_to == "waiting_for_cause"]
    if incident.state != "waiting_for_cause" or plan is None or not waiting:
        return incident.state
    known = {str(place): str(cause) for place, cause in dict(waiting[-1].detail.get("cause") or {}).items()}
    places = [
        (one.dataset, one.window)
        for one in plan_of(plan.body).publishes
        if one.dataset in catalog.landed or one.dataset in catalog.marts
    ]
    found = window_causes(warehouse, catalog, places)
    changed = [place for place, cause in found.items() if known.get(place) != cause]
    mended = [place for place in changed if _made_by(known.get(place)) != _made_by(found[place])]
    waited = now - waiting[-1].at
    if mended:
        what = f"what makes {mended[0]} has changed"
    elif changed and waited >= INPUTS_AFTER:
        what = f"the inputs of {changed[0]} have changed"
    elif waited >= TRIED_AFTER:
        what = f"it has waited for {TRIED_AFTER.total_seconds() / 3600:.0f} hours"
    else:
        return incident.state
    with available("control database"), control.begin() as connection:
        told = f"{what}: it is tried again"
        change_state(connection, incident_id, "waiting_for_cause", "planned", actor, told, now)
    return "planned"


def look_at_exit(
    control: Engine, warehouse: Engine, catalog: Catalog, incident_id: str, actor: Actor, now: datetime
) -> tuple[str, ...]:
    """Resolve a recovered incident if the exit criteria hold; return what keeps it from that.

    What waits for a person, partitions whose landing has stopped, is told once in the timeline as well.

    Raises:
        SourceUnavailable: a database does not answer; nothing was changed.
    """
    with available("control database"), control.connect() as connection:
        incident = read_incident(connection, incident_id)
        signals = signals_of(connection, incident_id)
        names = [name for name in catalog.reconciliations if set(datasets_of(catalog, name)) & set(incident.datasets)]
        differences = _differences(connection, names, incident.began_at)
    if incident.state != "recovered" or incident.recovered_at is None or now - incident.recovered_at < HELD_FOR:
        return ("it has not held for 30 minutes",)
    reasons = [
        f"signal {one.signal_id} ({one.kind}) lasts"
        for one in signals
        if rule_of(one.kind).clears and one.cleared_at is None
    ]
    if differences:
        reasons.append(f"{differences} differences that nothing explains were found since it began")
    with available("warehouse"), warehouse.connect() as connection:
        values = {"datasets": list(incident.datasets), "since": now - HELD_FOR}
        row = connection.execute(query("dead_letter_share"), values).one()
        stopped = _stopped_landing(connection, catalog, incident)
    reasons += stopped
    if row.rows and row.dead_letters > MAX_DEAD_LETTER_SHARE * row.rows:
        reasons.append(f"{row.dead_letters} of {row.rows} events landed in the last 30 minutes are dead letters")
    if stopped:
        with available("control database"), control.begin() as connection:
            _tell_once(connection, incident, f"not resolved yet: {'; '.join(stopped)}", actor, now)
    if not reasons:
        with available("control database"), control.begin() as connection:
            told = "held for 30 minutes: no signal lasts, no difference is open, dead letters are below 0.1 %"
            change_state(connection, incident_id, "recovered", "resolved", actor, told, now)
    return tuple(reasons)


def _differences(connection: Connection, reconciliations: list[str], since: datetime) -> int:
    values = {"reconciliations": reconciliations, "since": since}
    return int(connection.execute(query("unexplained_since"), values).scalar_one())


def _stopped_landing(warehouse: Connection, catalog: Catalog, incident: Incident) -> list[str]:
    """Return which partitions of an incident's topics wait for a person, and how each topic's go on.

    No signal says so as long as they do, and no lander goes past them.
    """
    stopped: dict[str, list[int]] = {}
    for (topic, partition), place in sorted(landing_offsets(warehouse).items()):
        contract = catalog.topics.get(topic)
        if place.stopped and contract is not None and contract.name in incident.datasets:
            stopped.setdefault(topic, []).append(partition)
    return [
        f"landing of {topic}[{', '.join(map(str, partitions))}] has stopped until "
        f"`incident-pipelines landing resume {topic} --from start` (or `--from end`)"
        for topic, partitions in stopped.items()
    ]


def _tell_once(connection: Connection, incident: Incident, told: str, actor: Actor, now: datetime) -> None:
    entries = read_timeline(connection, incident.incident_id)
    since = max(one.number for one in entries if one.state_to == "recovered")
    if not any(one.number > since and one.text == clean(told) for one in entries):
        append_entry(connection, incident.incident_id, NewEntry("noted", actor, told, now))


def _made_by(cause: str | None) -> str | None:
    """The part of a cause that says what makes the window, without the version of its inputs."""
    return None if cause is None else cause.partition(" ")[2]
