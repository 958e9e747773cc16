"""Says for whom an incident waits: who has the windows of its plan, or has yet to put right what it compares."""

from collections.abc import Iterable

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.holds import number_of, overlapping_holds
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.core.incidents.holds import Place, in_the_way, joined, told
from incident_pipelines.core.incidents.incident import Incident, State
from incident_pipelines.core.recovery.plan import plan_of

STILL_TO_REPAIR: frozenset[State] = frozenset(
    {"detected", "contained", "scoped", "planned", "awaiting_approval", "waiting_for_cause", "recovering"}
)
"""Not `verifying`: of two that wait for each other's proof neither would ever go on."""


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
    with available("warehouse"), warehouse.connect() as connection:
        for dataset, window in joined((one.dataset, one.window) for one in plan_of(stored.body).publishes):
            holds = overlapping_holds(connection, dataset, window)
            if (standing := in_the_way("recovery", number_of(incident.incident_id), holds)) is not None:
                return told(standing, dataset, window)
    return None


def still_to_repair(control: Engine, warehouse: Engine, incident_id: str, places: Iterable[Place]) -> str | None:
    """Return which other incident holds some of these windows and has yet to put them right; None if none does.

    One that was stopped or escalated does not count: nobody knows when a person will take it up. Nor does one that
    waits itself: it may be for this one.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        holds = [one for dataset, window in places for one in overlapping_holds(connection, dataset, window)]
    with available("control database"), control.connect() as connection:
        for hold in holds:
            if hold.incident_id == incident_id:
                continue
            other = read_incident(connection, hold.incident_id)
            goes_on = other.state in STILL_TO_REPAIR and other.stopped_at is None
            if goes_on and goes_first(control, warehouse, other) is None:
                return told(hold, hold.dataset, hold.window)
    return None
