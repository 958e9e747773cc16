"""Signals → incidents: each signal is part of exactly one incident, whoever takes it and whatever dies meanwhile."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.incidents import (
    change_state,
    insert_incident,
    join_signal,
    joined_windows,
    read_incidents,
    waiting_signals,
)
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import rule_of, severity_of
from incident_pipelines.core.incidents.incident import Actor, Incident, RaisedSignal
from incident_pipelines.core.incidents.joining import datasets_of, grown, incident_for, relations, reopens

NEW_SIGNALS_SENSOR = Actor("sensor", "new_signals_sensor")
PAGE = 200
_TAKERS_LOCK = 0x1C1D_0002  # any constant of our own: two takers must not open two incidents for one cause


@dataclass(frozen=True)
class Taken:
    """What became of some signals.

    Args:
        opened, reopened, joined: ids of incidents; an opened one is not among the joined ones.
    """

    signals: int
    opened: tuple[str, ...]
    reopened: tuple[str, ...]
    joined: tuple[str, ...]


def take_signals(
    control: Engine, catalog: Catalog, now: datetime, actor: Actor = NEW_SIGNALS_SENSOR, limit: int = PAGE
) -> Taken:
    """Put each signal that belongs to no incident yet into one, in one transaction; do so again and nothing happens.

    Args:
        now: aware; when incidents are opened and joined.
        limit: signals at most; what is left is taken the next time.

    Raises:
        SourceUnavailable: the control database does not answer; nothing was changed.
    """
    related = relations(catalog)
    opened: list[str] = []
    reopened: list[str] = []
    joined: list[str] = []
    with available("control database"), control.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _TAKERS_LOCK})
        signals = waiting_signals(connection, limit)
        if not signals:
            return Taken(0, (), (), ())
        incidents = {one.incident_id: one for one in _locked_open_incidents(connection)}
        for signal in signals:
            datasets = datasets_of(catalog, signal.dataset)
            incident = incident_for(signal, datasets, incidents.values(), related)
            if incident is None:
                incident = _open(connection, catalog, signal, datasets, actor, now)
                opened.append(incident.incident_id)
            after = _join(connection, catalog, incident, signal, datasets, actor, now)
            failpoint("respond.joined")
            if incident.incident_id not in opened:
                joined.append(incident.incident_id)
                if after.state == "detected" and incident.state != "detected":
                    reopened.append(incident.incident_id)
            incidents[after.incident_id] = after
        failpoint("respond.before_commit")
    failpoint("respond.after_commit")
    return Taken(len(signals), tuple(opened), tuple(dict.fromkeys(reopened)), tuple(dict.fromkeys(joined)))


def _locked_open_incidents(connection: Connection) -> list[Incident]:
    """Return open incidents as they stay until the transaction ends: one that is being closed takes no signal."""
    connection.execute(
        text("SELECT 1 FROM incidents.incidents WHERE state NOT IN ('resolved', 'reviewed') ORDER BY number FOR UPDATE")
    )
    return read_incidents(connection, only_open=True)


def _open(
    connection: Connection,
    catalog: Catalog,
    signal: RaisedSignal,
    datasets: tuple[str, ...],
    actor: Actor,
    now: datetime,
) -> Incident:
    rule = rule_of(signal.kind)
    new = Incident(
        incident_id="",
        type=rule.type,
        cause=rule.cause,
        severity=severity_of(signal, _published(catalog, datasets)),
        state="detected",
        title=rule.title,
        source=rule.source,
        datasets=datasets,
        window=signal.window,
        began_at=min(signal.occurred_at, signal.raised_at),
        detected_at=signal.raised_at,
        opened_at=now,
        last_signal_at=signal.occurred_at,
    )
    return insert_incident(connection, new, actor, f"opened by signal {signal.signal_id} ({signal.kind})", now)


def _join(
    connection: Connection,
    catalog: Catalog,
    incident: Incident,
    signal: RaisedSignal,
    datasets: tuple[str, ...],
    actor: Actor,
    now: datetime,
) -> Incident:
    known = joined_windows(connection, incident.incident_id, signal.kind)
    after = grown(incident, signal, datasets, _published(catalog, datasets), known)
    join_signal(connection, after, signal, now)
    detail = {"signal_id": signal.signal_id, "kind": signal.kind, "dataset": signal.dataset}
    told = f"signal {signal.signal_id} ({signal.kind}, {signal.severity}): {signal.summary}"
    append_entry(connection, incident.incident_id, NewEntry("signal_joined", actor, told, now, detail=detail))
    if after.severity != incident.severity:
        told = f"raised from {incident.severity} to {after.severity} by signal {signal.signal_id}"
        detail = {"from": incident.severity, "to": after.severity}
        append_entry(connection, incident.incident_id, NewEntry("severity_raised", actor, told, now, detail=detail))
    if not reopens(incident, after):
        return after
    why = "the cause is back" if incident.state == "recovered" else "more is affected than was known"
    told = f"{why} (signal {signal.signal_id}): to be contained and scoped again"
    change_state(connection, incident.incident_id, incident.state, "detected", actor, told, now)
    return replace(after, state="detected", recovered_at=None)


def _published(catalog: Catalog, datasets: tuple[str, ...]) -> bool:
    return any(name in catalog.marts for name in datasets)
