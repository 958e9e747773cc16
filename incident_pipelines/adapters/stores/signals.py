"""Signals and how far the facts have been read, in the control database."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.stores.facts import StoredFact
from incident_pipelines.core.signals import Fact, Grading


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
        Its id; None if the fact has its signal already, or a comparison has found the same.
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
        "source_key": _source_key(fact),
        "occurred_at": fact.recorded_at,
    }
    signal_id = control.execute(query("raise_signal"), values).scalar()
    return signal_id or control.execute(query("raise_signal_of_reused_id"), values).scalar()


def open_windows(control: Connection, kind: str) -> list[tuple[str, datetime]]:
    """Return dataset and start of the windows with a signal of a rule that is not cleared."""
    return [tuple(row) for row in control.execute(query("open_window_signals"), {"kind": kind})]


def raise_window_signal(control: Connection, found: Fact, grading: Grading, summary: str) -> int | None:
    """Write the signal of what a rule found in a window.

    Args:
        found: as a fact would say it; equal ones are one signal until it is cleared.

    Returns:
        Its id; None if there is one already.
    """
    return control.execute(
        query("raise_window_signal"),
        {
            "kind": found.kind,
            "severity": grading.severity,
            "dataset": found.dataset,
            "window_start": found.window_start,
            "window_end": found.window_end,
            "detail": json.dumps({**found.detail, "summary": summary, "graded_by": grading.source}),
            "source_key": _source_key(found),
            "occurred_at": found.recorded_at,
        },
    ).scalar()


def clear_window_signals(control: Connection, kind: str, dataset: str, window_start: datetime) -> list[int]:
    """Note that a window is right again; return the ids of the signals that this clears."""
    values = {"kind": kind, "dataset": dataset, "window_start": window_start}
    return list(control.execute(query("clear_window_signals"), values).scalars())


def open_signal_keys(control: Connection, kind: str) -> dict[str, tuple[int, str]]:
    """Return id and dataset of the signals of a rule that are not cleared, by the key of what was found."""
    rows = control.execute(query("open_signal_keys"), {"kind": kind})
    return {key.removeprefix(f"{kind} "): (signal_id, dataset) for key, signal_id, dataset in rows}


def clear_signal(control: Connection, signal_id: int) -> None:
    """Note that what a rule had found is over."""
    control.execute(query("clear_signal"), {"signal_id": signal_id})


def _source_key(fact: Fact) -> str | None:
    """What tells one finding of a rule from another, whoever comes upon it."""
    key = fact.detail.get("signal_key")
    return f"{fact.kind} {key}" if isinstance(key, str) else None
