"""What a recovery leaves to others: rows that differ in its windows, until another incident has brought them back."""

from datetime import datetime

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import change_state, lately_open_incidents
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, entry_of_state, read_timeline
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.holds import Place, overlap
from incident_pipelines.core.incidents.incident import Actor, Incident
from incident_pipelines.core.incidents.joining import datasets_of
from incident_pipelines.core.recovery.proof import Proof
from incident_pipelines.stages.recovery.windows_held import gives_way, still_to_repair, to_repair
from incident_pipelines.stages.recovery.work import Work, changing


def wait_for_others(work: Work, proof: Proof) -> None:
    """Wait for the incident that has yet to bring back what differs; the timeline tells it once.

    Raises:
        WindowOwned: there is one; it is proved again later.
        SourceUnavailable: a database does not answer.
    """
    places = _places_that_differ(work.catalog, proof)
    other = still_to_repair(work.control, work.warehouse, work.catalog, work.incident_id, places)
    if other is None:
        return
    told = f"{proof.against[0]}, and {other}: proved again once that is done"
    with changing(work) as connection:
        if read_timeline(connection, work.incident_id)[-1].text != told:
            append_entry(connection, work.incident_id, NewEntry("noted", work.actor, told, work.clock()))
    raise WindowOwned(told)


def prove_again(control: Engine, catalog: Catalog, incident: Incident, actor: Actor, now: datetime) -> bool:
    """Lead an incident from `escalated` to `verifying` that was left only to others, once one of them has recovered.

    Each recovery leads there once: what is escalated after it differs still.

    Returns:
        Whether it was led there.

    Raises:
        IncidentConflict, IllegalTransition: a person was faster.
        SourceUnavailable: the control database does not answer.
    """
    with available("control database"), control.begin() as connection:
        if incident.state != "escalated" or not gives_way(connection, incident):
            return False
        proof = latest_finding(connection, incident.incident_id, "proof", Proof)
        assert proof is not None
        places = _places_that_differ(catalog, proof)
        since = entry_of_state(connection, incident.incident_id).at
        for other in lately_open_incidents(connection, since):
            if (
                other.incident_id != incident.incident_id
                and other.recovered_at is not None
                and other.recovered_at >= since
                and overlap(places, to_repair(connection, catalog, other))
            ):
                told = f"{other.incident_id} has recovered, where rows differed that it may have brought back"
                change_state(connection, incident.incident_id, "escalated", "verifying", actor, told, now)
                return True
    return False


def _places_that_differ(catalog: Catalog, proof: Proof) -> list[Place]:
    """Return the windows, by dataset, in which rows differ that an incident could not bring back."""
    return [
        (dataset, window)
        for one in proof.differing
        for dataset in datasets_of(catalog, one.reconciliation)
        for window in one.windows
    ]
