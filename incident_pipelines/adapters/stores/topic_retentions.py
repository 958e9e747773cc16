"""Retention of topics as it was when nothing was wrong with it, in the control database."""

from datetime import datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query


def remember_retention(connection: Connection, topic: str, retention_ms: int, now: datetime) -> None:
    """Note a retention that is not below its floor."""
    connection.execute(query("remember_retention"), {"topic": topic, "retention_ms": retention_ms, "now": now})


def remembered_retention(connection: Connection, topic: str) -> int | None:
    """Return the retention of a topic as it was last when nothing was wrong with it; None if that is not known."""
    return connection.execute(query("remembered_retention"), {"topic": topic}).scalar()
