"""What a recovery leaves to others: rows that differ in its windows, and those windows, until they are brought back."""

from collections.abc import Iterable
from dataclasses import replace

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.holds import release_holds
from incident_pipelines.adapters.stores.incidents import read_incidents
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, read_timeline
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.holds import Place, overlap
from incident_pipelines.core.incidents.joining import datasets_of
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.recovery.proof import Proof
from incident_pipelines.stages.recovery.windows_held import gives_way, still_to_repair
from incident_pipelines.stages.recovery.work import Work, changing, lead


def wait_for_others(work: Work, proof: Proof) -> None:
    """Let others go on in these windows, and wait for the one that has yet to bring back what differs in them.

    Raises:
        WindowOwned: there is one; it is proved again later.
        SourceUnavailable: a database does not answer.
    """
    with available("warehouse"), work.warehouse.begin() as connection:
        release_holds(connection, work.incident_id, ("recovery",))
    places = _places_that_differ(work.catalog, proof)
    if other := still_to_repair(work.control, work.warehouse, work.catalog, work.incident_id, places):
        raise WindowOwned(f"{proof.against[0]}, and {other}: compared again once that is done")


def note_handed_over(work: Work, others: Iterable[str]) -> None:
    """Write into the timelines of others that their windows are this incident's now."""
    with changing(work) as connection:
        for other in sorted(others):
            told = f"{work.incident_id} brings back rows that differ here, and takes over the windows that both hold"
            append_entry(connection, other, NewEntry("noted", work.actor, told, work.clock()))


def have_proved_again(work: Work) -> None:
    """Lead the incidents to `verifying` that were escalated for rows which a recovered incident has brought back.

    Each once for each of its plans: what is escalated after that differs still.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    with changing(work) as connection:
        stored = latest_plan(connection, work.incident_id)
        if stored is None:
            return
        cause = f"{work.incident_id} {stored.digest}"
        published = [(one.dataset, one.window) for one in plan_of(stored.body).publishes]
        for other in read_incidents(connection, only_open=True):
            if other.state != "escalated" or not gives_way(connection, other):
                continue
            proof = latest_finding(connection, other.incident_id, "proof", Proof)
            assert proof is not None
            known = any(one.detail.get("because_of") == cause for one in read_timeline(connection, other.incident_id))
            if not known and overlap(_places_that_differ(work.catalog, proof), published):
                told = f"{work.incident_id} has brought back what it holds of the rows that differed: proved again"
                its_work, detail = replace(work, incident_id=other.incident_id), {"because_of": cause}
                lead(connection, its_work, "escalated", "verifying", told, None, detail)


def _places_that_differ(catalog: Catalog, proof: Proof) -> list[Place]:
    """Return the windows, by dataset, in which rows differ that an incident could not bring back."""
    return [
        (dataset, window)
        for one in proof.differing
        for dataset in datasets_of(catalog, one.reconciliation)
        for window in one.windows
    ]
