"""Watches that somebody told to be quiet for a while, in the control database."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.landing_watch import Watch


@dataclass(frozen=True)
class Suspension:
    """A watch that raises nothing, and for which nothing is contained.

    Args:
        until: half-open; it ends by itself.
        by, because: as whoever did it said.
    """

    suspension_id: int
    watch: Watch
    began_at: datetime
    until: datetime
    by: str
    because: str


def suspensions(connection: Connection, now: datetime) -> dict[Watch, Suspension]:
    """Return the watches that are suspended now."""
    rows = connection.execute(query("read_suspensions"), {"now": now})
    return {row.watch: Suspension(*row) for row in rows}


def suspend(connection: Connection, watch: Watch, until: datetime, by: str, because: str, now: datetime) -> Suspension:
    """Suspend a watch; takes the place of a suspension that it has."""
    resume(connection, watch, by, now)
    values = {"watch": watch, "now": now, "until": until, "by": by, "because": because}
    return Suspension(*connection.execute(query("suspend_watch"), values).one())


def resume(connection: Connection, watch: Watch, by: str, now: datetime) -> bool:
    """End the suspension of a watch.

    Returns:
        Whether it was suspended.
    """
    ended = connection.execute(query("resume_watch"), {"watch": watch, "by": by, "now": now}).scalars()
    return any(ended.all())
