"""What every step of a recovery works with, and how it leads its incident from state to state."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.ownership import sole_owner
from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.holds import number_of
from incident_pipelines.adapters.stores.incidents import change_state, read_incident
from incident_pipelines.adapters.stores.incidents_timeline import read_timeline
from incident_pipelines.adapters.stores.incidents_work import StoredPlan, plans_of
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import RecoveryOwned, RecoveryStopped
from incident_pipelines.core.incidents.incident import Actor, Incident, State
from incident_pipelines.stages.publication.publish import PublishedWindow

Published = Callable[[PublishedWindow, str], None]
Report = Callable[[str], None]

_OWNERS_LOCK = 0x1C1D_0006  # any constant of our own, before the incident's number


@dataclass(frozen=True)
class Work:
    """What every step works with.

    Args:
        environment: addresses of databases, broker and sources.
        actor: who does it.
        owner: the same, as others see it who want a window.
        report: told of each step.
        published: told of each window that was published, with its progress.
    """

    control: Engine
    warehouse: Engine
    catalog: Catalog
    environment: Mapping[str, str]
    incident_id: str
    actor: Actor
    owner: str
    report: Report = lambda _: None
    published: Published = lambda window, progress: None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@contextmanager
def changing(work: Work) -> Iterator[Connection]:
    """Give a transaction of the control database.

    Raises:
        SourceUnavailable: it does not answer; nothing was changed.
    """
    with available("control database"), work.control.begin() as connection:
        yield connection


@contextmanager
def alone(work: Work) -> Iterator[None]:
    """Be the one who works on the incident within the block; who dies or is cut off is that no longer.

    Raises:
        RecoveryOwned: somebody else is; nothing was done.
        SourceUnavailable: the control database does not answer.
    """
    with ExitStack() as stack:
        with available("control database"):
            owner = stack.enter_context(sole_owner(work.control, _OWNERS_LOCK << 32 | number_of(work.incident_id)))
        if owner is not None:
            raise RecoveryOwned(f"{work.incident_id} is being recovered by {owner}, which goes on alone")
        yield


def current(work: Work) -> Incident:
    """Return the incident as it is now."""
    with available("control database"), work.control.connect() as connection:
        return read_incident(connection, work.incident_id)


def lead(
    connection: Connection,
    work: Work,
    expected: State,
    target: State,
    told: str,
    revision: int | None,
    detail: dict[str, Any] | None = None,
) -> State:
    """Lead the incident from a state to another and return that; errors as of `change_state`."""
    change_state(
        connection,
        work.incident_id,
        expected,
        target,
        work.actor,
        told,
        work.clock(),
        detail=detail,
        revision=revision,
    )
    return target


def plans_since_detected(connection: Connection, work: Work) -> list[StoredPlan]:
    """Return the plans since the incident was last detected: what was tried before counts no more."""
    detected = [one.at for one in read_timeline(connection, work.incident_id) if one.state_to == "detected"]
    return [one for one in plans_of(connection, work.incident_id) if one.made_at >= detected[-1]]


def check_wanted(work: Work) -> None:
    """Check that what is under way is still wanted; to be called before each effect.

    Raises:
        RecoveryStopped: a person has stopped the incident, or it begins again.
    """
    incident = current(work)
    if incident.stopped_at is not None:
        raise RecoveryStopped(
            f"{work.incident_id} was stopped by {incident.stopped_by}: {incident.stopped_because}; what was done "
            f"stays, `incident-pipelines incident resume {work.incident_id}` goes on"
        )
    if incident.state not in ("recovering", "verifying"):
        raise RecoveryStopped(f"{work.incident_id} is {incident.state} by now: it begins again from there")
