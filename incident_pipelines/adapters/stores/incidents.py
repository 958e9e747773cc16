"""Incidents and the signals in them, in the control database; every change with its entry of the timeline."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, entry_of_state
from incident_pipelines.core.errors import IncidentConflict, UnknownIncident
from incident_pipelines.core.incidents.incident import Actor, Incident, RaisedSignal, State
from incident_pipelines.core.incidents.transitions import check_transition, party
from incident_pipelines.core.windows import TimeWindow


def find_incident(connection: Connection, incident_id: str) -> Incident:
    """Return an incident and keep others from changing it until the transaction ends.

    Raises:
        UnknownIncident: there is none of that id.
    """
    return _found(
        incident_id, connection.execute(query("lock_incident"), {"incident_id": incident_id}).mappings().first()
    )


def read_incident(connection: Connection, incident_id: str) -> Incident:
    """Return an incident.

    Raises:
        UnknownIncident: there is none of that id.
    """
    return _found(
        incident_id, connection.execute(query("read_incident"), {"incident_id": incident_id}).mappings().first()
    )


def read_incidents(connection: Connection, *, only_open: bool) -> list[Incident]:
    """Return incidents in the order in which they were opened."""
    return [_incident(row) for row in connection.execute(query("read_incidents"), {"only_open": only_open}).mappings()]


def lately_open_incidents(connection: Connection, since: datetime) -> list[Incident]:
    """Return incidents that are open, or were closed since an instant, in the order in which they were opened."""
    rows = connection.execute(query("lately_open_incidents"), {"since": since}).mappings()
    return [_incident(row) for row in rows]


def insert_incident(connection: Connection, incident: Incident, actor: Actor, text: str, now: datetime) -> Incident:
    """Open an incident, with the first entry of its timeline.

    Args:
        incident: as it shall be; its id, its signals and its timeline are not looked at.

    Returns:
        It, under its id.
    """
    values: dict[str, Any] = {
        "type": incident.type,
        "cause": incident.cause,
        "severity": incident.severity,
        "title": incident.title,
        "source": incident.source,
        "datasets": list(incident.datasets),
        "window_start": incident.window and incident.window.start,
        "window_end": incident.window and incident.window.end,
        "began_at": incident.began_at,
        "detected_at": incident.detected_at,
        "opened_at": now,
        "last_signal_at": incident.last_signal_at,
    }
    opened = _incident(connection.execute(query("insert_incident"), values).mappings().one())
    detail = {
        "type": opened.type,
        "severity": opened.severity,
        "datasets": opened.datasets,
        "began_at": opened.began_at,
    }
    append_entry(connection, opened.incident_id, NewEntry("opened", actor, text, now, None, "detected", detail))
    return opened


def change_state(
    connection: Connection,
    incident_id: str,
    expected: State,
    target: State,
    actor: Actor,
    text: str,
    now: datetime,
    *,
    detail: dict[str, Any] | None = None,
    revision: int | None = None,
) -> None:
    """Lead an incident from one state to another, with the entry that tells it.

    Args:
        expected: state in which the caller has seen it.
        text: why, for whoever reads the timeline.
        revision: what the caller has worked on; None where it does not matter.

    Raises:
        IllegalTransition: that may not be, or not by this actor.
        IncidentConflict: it is in another state by now, or what is affected has grown since.
    """
    seen = find_incident(connection, incident_id)
    if seen.state != expected:
        raise IncidentConflict(f"{incident_id} is {seen.state} by now, not {expected}; nothing was changed")
    if revision is not None and seen.revision != revision:
        raise IncidentConflict(
            f"{incident_id} has grown to revision {seen.revision} since {revision} was looked at; scope it again"
        )
    check_transition(
        incident_id,
        expected,
        target,
        party(actor.kind),
        stopped=seen.stopped_at is not None,
        escalated_from=entry_of_state(connection, incident_id).state_from if expected == "escalated" else None,
    )
    values = {
        "incident_id": incident_id,
        "expected": expected,
        "target": target,
        "actor": str(actor),
        "by_person": actor.kind == "person",
        "now": now,
        "revision": revision,
    }
    if connection.execute(query("change_incident_state"), values).rowcount != 1:
        raise IncidentConflict(f"{incident_id} was changed meanwhile; nothing was changed")
    append_entry(connection, incident_id, NewEntry("state_changed", actor, text, now, expected, target, detail or {}))


def waiting_signals(connection: Connection, page: int) -> list[RaisedSignal]:
    """Return signals that belong to no incident yet, oldest first, at most a page of them."""
    return [_signal(row) for row in connection.execute(query("waiting_signals"), {"page": page}).mappings()]


def signals_of(connection: Connection, incident_id: str) -> list[RaisedSignal]:
    """Return the signals of an incident in the order in which they were raised."""
    rows = connection.execute(query("incident_signals"), {"incident_id": incident_id}).mappings()
    return [_signal(row) for row in rows]


def joined_windows(connection: Connection, incident_id: str, kind: str) -> set[tuple[str, TimeWindow | None]]:
    """Return dataset and window of the signals of a kind that an incident has."""
    rows = connection.execute(query("joined_windows"), {"incident_id": incident_id, "kind": kind}).mappings()
    return {(row["dataset"], _window(row)) for row in rows}


def join_signal(connection: Connection, after: Incident, signal: RaisedSignal, now: datetime) -> None:
    """Put a signal into an incident.

    Args:
        after: the incident with the signal.
    """
    values = {"signal_id": signal.signal_id, "incident_id": after.incident_id, "joined_at": now}
    connection.execute(query("join_signal"), values)
    values = {
        "incident_id": after.incident_id,
        "datasets": list(after.datasets),
        "window_start": after.window and after.window.start,
        "window_end": after.window and after.window.end,
        "began_at": after.began_at,
        "severity": after.severity,
        "last_signal_at": after.last_signal_at,
        "signals": after.signals,
        "revision": after.revision,
    }
    connection.execute(query("widen_incident"), values)


def set_acknowledged(connection: Connection, incident_id: str, actor: Actor, now: datetime) -> None:
    """Note who has taken an incident on; who was first stays."""
    values = {"incident_id": incident_id, "now": now, "actor": str(actor), "commander": actor.name}
    connection.execute(query("acknowledge_incident"), values)


def set_stopped(connection: Connection, incident_id: str, actor: Actor, because: str, now: datetime) -> None:
    """Forbid the system to act on an incident."""
    values = {"incident_id": incident_id, "now": now, "actor": str(actor), "because": because}
    connection.execute(query("stop_incident"), values)


def set_resumed(connection: Connection, incident_id: str) -> None:
    """Let the system act on an incident again."""
    connection.execute(query("resume_incident"), {"incident_id": incident_id})


def _found(incident_id: str, row: RowMapping | None) -> Incident:
    if row is None:
        raise UnknownIncident(f"no incident {incident_id!r}; `incident-pipelines incident list --all` shows them")
    return _incident(row)


def _incident(row: RowMapping) -> Incident:
    return Incident(
        incident_id=row["incident_id"],
        type=row["type"],
        cause=row["cause"],
        severity=row["severity"],
        state=row["state"],
        title=row["title"],
        source=row["source"],
        datasets=tuple(row["datasets"]),
        window=_window(row),
        began_at=_utc(row["began_at"]),
        detected_at=_utc(row["detected_at"]),
        opened_at=_utc(row["opened_at"]),
        last_signal_at=_utc_or_none(row["last_signal_at"]),
        signals=row["signals"],
        revision=row["revision"],
        commander=row["commander"],
        acknowledged_at=_utc_or_none(row["acknowledged_at"]),
        acknowledged_by=row["acknowledged_by"],
        contained_at=_utc_or_none(row["contained_at"]),
        recovered_at=_utc_or_none(row["recovered_at"]),
        resolved_at=_utc_or_none(row["resolved_at"]),
        resolution=row["resolution"],
        reviewed_at=_utc_or_none(row["reviewed_at"]),
        stopped_at=_utc_or_none(row["stopped_at"]),
        stopped_by=row["stopped_by"],
        stopped_because=row["stopped_because"],
        entries=row["entries"],
        head_hash=row["head_hash"],
    )


def _signal(row: RowMapping) -> RaisedSignal:
    return RaisedSignal(
        row["signal_id"],
        row["kind"],
        row["severity"],
        row["dataset"],
        _window(row),
        row["detail"] if isinstance(row["detail"], dict) else {},
        _utc(row["occurred_at"]),
        _utc(row["raised_at"]),
        _utc_or_none(row["cleared_at"]),
    )


def _window(row: RowMapping) -> TimeWindow | None:
    """Return the window of a row; a start alone is its hour, and what is no window is none."""
    start, end = row["window_start"], row["window_end"]
    if start is None:
        return None
    if end is None or end <= start:
        return TimeWindow.hour_of(start)
    return TimeWindow(_utc(start), _utc(end))


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


def _utc_or_none(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)
