"""Signals and how far the facts have been read, in the control database."""

from typing import Any

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.publication import query
from incident_pipelines.adapters.stores.facts import StoredFact
from incident_pipelines.core.signals import Grading


def take_cursor(control: Connection, name: str) -> int:
    """Become the one reader until the transaction ends; return the first transaction that is not read yet."""
    held = control.execute(query("take_cursor"), {"name": name}).scalar()
    if held is None:
        control.execute(
            text("INSERT INTO monitoring.cursors (name, xid) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING"),
            {"name": name},
        )
        held = control.execute(query("take_cursor"), {"name": name}).scalar_one()
    return int(held)


def move_cursor(control: Connection, name: str, xid: int) -> None:
    """Note that everything below a transaction has been read."""
    control.execute(
        text("UPDATE monitoring.cursors SET xid = :xid, moved_at = now() WHERE name = :name"),
        {"name": name, "xid": xid},
    )


def raise_signal(control: Connection, stored: StoredFact, grading: Grading, summary: str) -> int | None:
    """Write the one signal of a fact.

    Returns:
        Its id; None if the fact has its signal already.
    """
    fact = stored.fact
    values: dict[str, Any] = {
        "kind": fact.kind,
        "severity": grading.severity,
        "dataset": fact.dataset,
        "window_start": fact.window_start,
        "window_end": fact.window_end,
        "detail": stored.detail_json,
        "summary": summary,
        "graded_by": grading.source,
        "source_fact": fact.fact_id,
        "occurred_at": fact.recorded_at,
    }
    signal_id = control.execute(query("raise_signal"), values).scalar()
    return signal_id or control.execute(query("raise_signal_of_reused_id"), values).scalar()
