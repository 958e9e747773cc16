"""Writes live events into the outbox, in the transaction of the change that they tell of."""

import time
from collections.abc import Sequence

import psycopg

from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import Event, timestamp_text
from incident_pipelines.example.history_rows import add_control_totals

LANE = "live"


def add_to_outbox(connection: psycopg.Connection, events: Sequence[Event]) -> int:
    """Add events and count them; one that is there already is left alone.

    Args:
        connection: inside the transaction that makes the change.
        events: in the order in which they are to be sent.

    Returns:
        How many were new.
    """
    event_ids = [event.event_id for event in events]
    added = connection.execute(
        statement("add_to_outbox"),
        (
            event_ids,
            [event.topic for event in events],
            [event.event_type for event in events],
            [event.key for event in events],
            [event.value for event in events],
            [timestamp_text(event.time_us) for event in events],
            event_ids,
        ),
    ).fetchall()
    new = {event_id for (event_id,) in added}
    add_control_totals(connection, (event for event in events if event.event_id in new))
    return len(new)


def now_us() -> int:
    """Return the current time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000
