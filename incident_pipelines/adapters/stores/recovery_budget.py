"""What recoveries may still do, in the control database: taken before it is done, so that a crash cannot exceed it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query

CAPACITY_COUNTS_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Replayed:
    """What a plan has replayed so far.

    Args:
        failed: of `events`, those that break their contract.
    """

    events: int
    failed: int


def open_budget(connection: Connection, plan_id: int, events_at_most: int) -> None:
    """Set how many events a plan may replay in all; what was set first stays."""
    connection.execute(query("open_budget"), {"plan_id": plan_id, "events_at_most": events_at_most})


def take_budget(connection: Connection, plan_id: int, events: int) -> bool:
    """Take events from a plan's budget, to be committed before they are replayed; False: so many are not left."""
    return connection.execute(query("take_budget"), {"plan_id": plan_id, "events": events}).first() is not None


def count_replayed(connection: Connection, plan_id: int, replayed: int, failed: int) -> Replayed:
    """Count what was replayed and return all that was."""
    values = {"plan_id": plan_id, "replayed": replayed, "failed": failed}
    row = connection.execute(query("count_replayed"), values).one()
    return Replayed(row.replayed, row.failed)


def take_turn(connection: Connection, seconds: float) -> float:
    """Take the next so many seconds of replaying, over all recoveries; return how long to wait until they are over."""
    return max(0.0, float(connection.execute(query("take_turn"), {"seconds": seconds}).scalar_one()))


def latest_capacity(connection: Connection, now: datetime) -> float | None:
    """Return how many events a second landing was measured to take; None if that was not measured lately."""
    return connection.execute(query("latest_capacity"), {"since": now - CAPACITY_COUNTS_FOR}).scalar()


def store_capacity(connection: Connection, now: datetime, events_per_second: float, how: str) -> None:
    """Keep a measured capacity of landing."""
    values = {"measured_at": now, "events_per_second": events_per_second, "how": how}
    connection.execute(query("store_capacity"), values)
