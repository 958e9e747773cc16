"""Says whether an incident would be told to wait if it took the windows of its plan now."""

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.holds import number_of, overlapping_holds
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.core.incidents.holds import in_the_way, joined, told
from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.recovery.plan import plan_of


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
