"""Removes missed deletes on an incident's behalf: written down before it is done, counted after it, and undone."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_work import finish_action, intend_action, read_actions, retry_action
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.joining import relations
from incident_pipelines.core.recovery.deletes import MissedDeletes
from incident_pipelines.core.recovery.plan import RecoveryPlan
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.recovery.missed_deletes import (
    find_missed_deletes,
    restore,
    source_of,
    table_contract,
    tombstone,
)
from incident_pipelines.stages.recovery.work import Work, check_wanted

REMOVE, RESTORE = "remove_missed_deletes", "restore_removed_rows"


@dataclass(frozen=True)
class Removal:
    """What a removal did.

    Args:
        removed: tombstones appended.
        refused: for each window whose rows stay: why, and what to do.
    """

    found: MissedDeletes
    removed: int
    refused: tuple[str, ...] = ()


def remove_missed_deletes(work: Work, plan: RecoveryPlan) -> list[str]:
    """Remove what the reconciliations of a plan call unexpected, in its windows; return what was refused.

    Raises:
        RecoveryStopped: a person has stopped it; what was done stays.
    """
    related = relations(work.catalog)
    compared = {dataset for name in plan.remove for dataset in related.get(name, ())}
    refused: list[str] = []
    for dataset, contract in work.catalog.landed.items():
        windows = [one.window for one in plan.publishes if one.dataset == dataset]
        if dataset not in compared or not windows or not isinstance(contract, RowsContract):
            continue
        if not isinstance(contract.origin, TableSource):
            continue  # deletes arrive on the topic, like everything else of it
        work.report(f"{dataset}: asking {contract.origin.source} which rows of {len(windows)} windows are gone there")
        try:
            done = remove(
                work.control,
                work.warehouse,
                work.catalog,
                work.environment,
                work.incident_id,
                dataset,
                windows,
                work.actor,
                work.clock(),
                check=lambda: check_wanted(work),
            )
        except SourceUnavailable as error:
            refused.append(f"{dataset}: deleted rows could not be looked for: {error}")
            continue
        refused += done.refused
    return refused


def remove(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    environment: Mapping[str, str],
    incident_id: str,
    dataset: str,
    windows: Sequence[TimeWindow],
    actor: Actor,
    now: datetime,
    *,
    agreed: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Removal:
    """Find the rows of a dataset that its source no longer has, and remove those that may go; done again, the rest.

    Args:
        environment: addresses of the catalog's sources.
        agreed: most rows that a person, the actor, has agreed to.
        now: aware.
        check: called before each effect; raises if it has to stop.

    Raises:
        NotRemovable: the dataset is not read from a table.
        UnknownIncident: there is none of that id.
        SourceUnavailable: a database does not answer; what was done stays.
    """
    contract = table_contract(catalog, dataset)
    with source_of(catalog, environment, contract) as source:
        found = find_missed_deletes(source, warehouse, contract, windows, now, agreed=agreed, check=check)
        if not found.windows:
            return Removal(found, 0)
        refused = tuple(_told(found.dataset, one.window, one.refused, incident_id) for one in found.refused)
        key = _begin(control, incident_id, REMOVE, dataset, windows, found, actor, now, agreed)
        removed = tombstone(source, warehouse, contract, found.keys, incident_id, now, check=check)
    outcome = {
        "removed": removed,
        "by_window": {str(one.window): len(one.keys) for one in found.removable},
        "refused": list(refused),
    }
    told = f"{removed:,} rows of {dataset} removed that {_source(contract)} no longer has"
    if refused:
        told += f"; {len(refused)} windows refused: {refused[0]}"
    with available("control database"), control.begin() as connection:
        state = "failed" if refused and not removed else "done"
        undo = {"dataset": dataset, "note": incident_id} if removed else None
        finish_action(connection, key, state, outcome, actor, told, now, undo)
    return Removal(found, removed, refused)


def take_back(
    control: Engine,
    warehouse: Engine,
    catalog: Catalog,
    incident_id: str,
    dataset: str,
    actor: Actor,
    now: datetime,
) -> int:
    """Undo what was removed of a dataset for an incident; return how many rows come back.

    Raises:
        NotRemovable: the dataset is not read from a table.
        UnknownIncident: there is none of that id.
        SourceUnavailable: a database does not answer; what was done stays.
    """
    contract = table_contract(catalog, dataset)
    key = _begin(control, incident_id, RESTORE, dataset, (), MissedDeletes(dataset), actor, now, None)
    back = restore(warehouse, contract, incident_id, now)
    with available("control database"), control.begin() as connection:
        told = f"{back:,} rows of {dataset} are back that were removed for {incident_id}"
        finish_action(connection, key, "done", {"restored": back}, actor, told, now)
    return back


def _begin(
    control: Engine,
    incident_id: str,
    kind: str,
    dataset: str,
    windows: Sequence[TimeWindow],
    found: MissedDeletes,
    actor: Actor,
    now: datetime,
    agreed: int | None,
) -> str:
    """Commit the intent and return its key; one that has not come to an end is taken up again."""
    digest = hashlib.sha256("\0".join(map(str, (dataset, *sorted(windows)))).encode()).hexdigest()[:16]
    prefix = f"{incident_id}:{kind}:{dataset}:{digest}"
    with available("control database"), control.begin() as connection:
        read_incident(connection, incident_id)
        known = [one for one in read_actions(connection, incident_id) if one.key.startswith(f"{prefix}:")]
        key = f"{prefix}:{sum(one.state == 'done' for one in known) + 1}"
        what = (
            f"remove {len(found.keys):,} rows of {dataset} that its source no longer has"
            if kind == REMOVE
            else f"take back the rows of {dataset} that were removed for {incident_id}"
        )
        if agreed is not None:
            what += f"; {actor} agrees to {agreed:,} at most"
        target = {
            "what": what,
            "dataset": dataset,
            "agreed": agreed,
            "windows": [str(one.window) for one in found.windows],
        }
        if not intend_action(connection, incident_id, key, kind, target, actor, what, now):
            retry_action(connection, key)
    return key


def _told(dataset: str, window: TimeWindow, why: str | None, incident_id: str) -> str:
    command = (
        f"incident-pipelines missed-deletes {dataset} --from {window.start:%Y-%m-%dT%H:%M} "
        f"--to {window.end:%Y-%m-%dT%H:%M} --incident {incident_id} --at-most N --as NAME"
    )
    return f"{dataset} {window}: {why}; nothing was removed there. After a look at the rows a person may: `{command}`"


def _source(contract: RowsContract) -> str:
    assert isinstance(contract.origin, TableSource)
    return contract.origin.source
