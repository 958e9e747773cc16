"""Does what contains an incident, and undoes it; each may be done twice and is then as if done once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.privileges import restore_privileges, revoke_access, revoke_writes
from incident_pipelines.adapters.processes import SUPERVISOR_VARIABLE, start_processes
from incident_pipelines.adapters.stores.holds import hold_windows, release_place
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.incidents.containment_actions import (
    ContainmentAction,
    HoldWindows,
    RestoreRetention,
    RevokeAccess,
    RevokeWrites,
    StartLanders,
)
from incident_pipelines.stages.landing.retention import restore_retention

LANDER = "lander"


class OutOfReach(IncidentPipelinesError):
    """An action cannot succeed however often it is tried; a person has to do it."""


@dataclass(frozen=True)
class Surroundings:
    """What an action reaches outside of the control database.

    Args:
        environment: addresses of broker and supervisor.
        now: aware.
    """

    warehouse: Engine
    catalog: Catalog
    environment: Mapping[str, str]
    now: datetime


@dataclass(frozen=True)
class Effect:
    """What an action has done.

    Args:
        told: for whoever reads the timeline.
        undo: what its undoing needs; None where there is nothing to undo.
    """

    told: str
    outcome: Mapping[str, Any] = field(default_factory=dict[str, Any])
    undo: Mapping[str, Any] | None = None


def carry_out(action: ContainmentAction, key: str, incident_id: str, around: Surroundings) -> Effect:
    """Do what an action says.

    Args:
        key: of the action; privileges are taken away under it.

    Raises:
        OutOfReach: it cannot be done by the system.
        IncidentPipelinesError: it could not be done now.
    """
    match action:
        case RestoreRetention(topic=topic):
            if "KAFKA_BOOTSTRAP_SERVERS" not in around.environment:
                raise OutOfReach("KAFKA_BOOTSTRAP_SERVERS is not set")
            restored = restore_retention(around.environment, around.catalog, topic)
            before, after = restored.before_ms, restored.after_ms
            told = (
                f"retention of topic {topic} is {after} ms, which is not below its floor: left as it is"
                if before == after
                else f"retention of topic {topic} put back from {before} ms to {after} ms"
            )
            return Effect(told, {"before_ms": before, "after_ms": after})
        case StartLanders():
            if SUPERVISOR_VARIABLE not in around.environment:
                raise OutOfReach(f"{SUPERVISOR_VARIABLE} is not set; start them where they are supervised")
            started = start_processes(around.environment, LANDER)
            told = f"started {', '.join(started.started)}" if started.started else "every lander was running"
            return Effect(told, {"started": started.started, "running": started.running})
        case HoldWindows(kind=kind, dataset=dataset, window=window, reason=reason):
            with available("warehouse"), around.warehouse.begin() as connection:
                hold_windows(connection, incident_id, kind, [(dataset, window)], reason, around.now)
            held = "paused" if kind == "pause" else "quarantined"
            undo = {"dataset": dataset, "window_start": window.start, "window_end": window.end}
            return Effect(f"{dataset} {window} is {held}: only {incident_id} publishes it", {}, undo)
        case RevokeWrites(role=role, table=table):
            with available("warehouse"), around.warehouse.begin() as connection:
                taken = revoke_writes(connection, key, role, table)
                if taken.still_writes:
                    # Nothing is taken away then: half of it would help nobody.
                    raise OutOfReach(
                        f"{role} can write to {table} through another role or PUBLIC as well: take that away by hand"
                    )
            if taken.refused:
                return Effect(f"nothing was revoked on {table}: {taken.refused}", {"refused": taken.refused})
            revoked = ", ".join(taken.privileges) or f"nothing, {role} has no right to write to {table}"
            return Effect(f"revoked: {revoked}", {"revoked": taken.privileges}, {"key": key})
        case RevokeAccess(tables=tables):
            with available("warehouse"), around.warehouse.begin() as connection:
                taken = revoke_access(connection, key, tables)
            revoked = ", ".join(taken.privileges) or f"nothing, nobody else has rights on {', '.join(tables)}"
            return Effect(f"revoked: {revoked}", {"revoked": taken.privileges}, {"key": key})
        case _:
            assert_never(action)


def undo(action: ContainmentAction, key: str, incident_id: str, around: Surroundings) -> str:
    """Undo an action, whether it was done to its end or not, and return what that means.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    match action:
        case RestoreRetention(topic=topic):
            return f"nothing to undo: the retention of topic {topic} stays, since its floor still holds"
        case StartLanders():
            return "nothing to undo: landers stay started"
        case HoldWindows(kind=kind, dataset=dataset, window=window):
            with available("warehouse"), around.warehouse.begin() as connection:
                released = release_place(connection, incident_id, kind, (dataset, window))
            state = "may be published by everybody again" if released else "was not held any more"
            return f"{dataset} {window} {state}"
        case RevokeWrites() | RevokeAccess():
            with available("warehouse"), around.warehouse.begin() as connection:
                restored = restore_privileges(connection, key)
            return f"given back: {', '.join(restored) or 'nothing'}"
        case _:
            assert_never(action)
