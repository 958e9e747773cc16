"""Says for whom an incident waits: who has the windows of its plan, or has yet to put right what it compares."""

from collections.abc import Iterable

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.holds import number_of, overlapping_holds
from incident_pipelines.adapters.stores.incidents import read_incidents
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.adapters.stores.incidents_timeline import entry_of_state
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.holds import Hold, Place, in_the_way, joined, overlap, publisher_of, told
from incident_pipelines.core.incidents.incident import Incident, State
from incident_pipelines.core.incidents.scope import Scope, strategy_of
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.recovery.proof import Proof

STILL_TO_REPAIR: frozenset[State] = frozenset(
    {"detected", "contained", "scoped", "planned", "awaiting_approval", "waiting_for_cause", "recovering"}
)
"""Not `verifying`: of two that wait for each other's proof neither would ever go on."""

LEFT_TO_OTHERS = "left_to_others"
"""In the detail of the entry that escalates: all could be done, and rows differ that others have to bring back."""


def goes_first(control: Engine, warehouse: Engine, incident: Incident) -> str | None:
    """Return why a planned incident has to wait for another one; None where it can go on, or has its windows already.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    if incident.state != "planned":
        return None
    with available("control database"), control.connect() as connection:
        stored = latest_plan(connection, incident.incident_id)
    if stored is None:
        return None
    held = _held(warehouse, ((one.dataset, one.window) for one in plan_of(stored.body).publishes))
    giving_way = _giving_way(control, incident.incident_id, (hold for _, holds in held for hold in holds))
    for (dataset, window), holds in held:
        others = (hold for hold in holds if hold.incident_id not in giving_way)
        if (standing := in_the_way("recovery", number_of(incident.incident_id), others)) is not None:
            return told(standing, dataset, window)
    return None


def giving_way_to(control: Engine, warehouse: Engine, incident_id: str, places: Iterable[Place]) -> frozenset[str]:
    """Return which others hold some of these windows and give way: each has published there all that it can bring back.

    What still differs there is not theirs, and would wait for ever for an incident that waits for them.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    return _giving_way(control, incident_id, (hold for _, holds in _held(warehouse, places) for hold in holds))


def held_by_another(control: Engine, warehouse: Engine, incident_id: str, place: Place) -> str | None:
    """Return who publishes a window instead of an incident and lets go of it by itself; None if nobody does.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    dataset, window = place
    with available("warehouse"), warehouse.connect() as connection:
        holder = publisher_of(overlapping_holds(connection, dataset, window))
    if holder is None or holder.incident_id == incident_id:
        return None
    with available("control database"), control.connect() as connection:
        ends = any(
            one.incident_id == holder.incident_id and one.state != "escalated" and one.stopped_at is None
            for one in read_incidents(connection, only_open=True)
        )
    return told(holder, dataset, window) if ends else None


def still_to_repair(
    control: Engine, warehouse: Engine, catalog: Catalog, incident_id: str, places: Iterable[Place]
) -> str | None:
    """Return which other incident has yet to put some of these windows right; None if none has.

    One that was stopped or escalated does not count: nobody knows when a person will take it up. Nor does one that
    waits itself: it may be for this one.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    looked_for = joined(places)
    with available("control database"), control.connect() as connection:
        others = [
            other
            for other in read_incidents(connection, only_open=True)
            if other.incident_id != incident_id
            and other.state in STILL_TO_REPAIR
            and other.stopped_at is None
            and overlap(looked_for, to_repair(connection, catalog, other))
        ]
    for other in others:
        if goes_first(control, warehouse, other) is None:
            return f"{other.incident_id}, {other.state.replace('_', ' ')}, has yet to put something right there"
    return None


def to_repair(connection: Connection, catalog: Catalog, incident: Incident) -> list[Place]:
    """Return the windows that an incident repairs; before it is scoped, all that it may turn out to be about."""
    if strategy_of(incident.cause, incident.type) in ("watch", "catch_up"):  # it lasts, and repairs nothing
        return []
    scope = latest_finding(connection, incident.incident_id, "scope", Scope)
    if scope is not None and scope.revision == incident.revision:
        return [(one.dataset, one.window) for one in (*scope.suspects, *scope.rebuild, *scope.downstream)]
    return [(dataset, incident.window or catalog.whole) for dataset in incident.datasets]


def gives_way(connection: Connection, incident: Incident) -> bool:
    """Whether an incident has done all that it can, and what differs in its windows is for others to bring back."""
    if incident.state not in ("verifying", "escalated") or incident.stopped_at is not None:
        return False
    last = entry_of_state(connection, incident.incident_id)
    # Escalated for something else, it would be taken from the person who has to decide.
    if incident.state == "escalated" and not last.detail.get(LEFT_TO_OTHERS):
        return False
    proof = latest_finding(connection, incident.incident_id, "proof", Proof)
    if proof is None or proof.revision != incident.revision or not proof.is_left_to_others:
        return False
    return incident.state == "escalated" or proof.as_of >= last.at


def _giving_way(control: Engine, incident_id: str, holds: Iterable[Hold]) -> frozenset[str]:
    holders = {hold.incident_id for hold in holds} - {incident_id}
    if not holders:
        return frozenset()
    with available("control database"), control.connect() as connection:
        others = (one for one in read_incidents(connection, only_open=True) if one.incident_id in holders)
        return frozenset(other.incident_id for other in others if gives_way(connection, other))


def _held(warehouse: Engine, places: Iterable[Place]) -> list[tuple[Place, list[Hold]]]:
    with available("warehouse"), warehouse.connect() as connection:
        return [(place, overlapping_holds(connection, *place)) for place in joined(places)]
