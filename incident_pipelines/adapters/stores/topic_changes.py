"""Who changed the retention of a topic, in the control database."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query


def intend_topic_change(
    connection: Connection,
    topic: str,
    before_ms: int,
    after_ms: int,
    acknowledged_for: Sequence[str],
    by: str,
    now: datetime,
) -> int:
    """Write down that a topic is about to get another retention; return the id of the change.

    Args:
        before_ms, after_ms: retention; -1: unlimited.
        acknowledged_for: consumers who are said to agree.
    """
    values = {
        "topic": topic,
        "before_ms": before_ms,
        "after_ms": after_ms,
        "acknowledged_for": list(acknowledged_for),
        "by": by,
        "now": now,
    }
    return int(connection.execute(query("intend_topic_change"), values).scalar_one())


def finish_topic_change(connection: Connection, change_id: int, failure: str | None = None) -> None:
    """Write down that the broker has it, or why not."""
    connection.execute(query("finish_topic_change"), {"change_id": change_id, "failure": failure})
