"""The timeline of incidents, in the control database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.errors import UnknownIncident
from incident_pipelines.core.incidents.incident import Actor, State
from incident_pipelines.core.incidents.timeline import Entry, EntryKind, clean, entry_hash, plain


@dataclass(frozen=True)
class NewEntry:
    """What is to be written into a timeline; its place and its hash follow from what stands there."""

    kind: EntryKind
    actor: Actor
    text: str
    at: datetime
    state_from: State | None = None
    state_to: State | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


def append_entry(connection: Connection, incident_id: str, new: NewEntry) -> Entry:
    """Write the next entry of an incident's timeline, and keep others from writing one until the transaction ends.

    Raises:
        UnknownIncident: there is no such incident.
    """
    head = connection.execute(query("lock_incident"), {"incident_id": incident_id}).mappings().first()
    if head is None:
        raise UnknownIncident(f"no incident {incident_id!r}")
    unsealed = Entry(
        head["entries"] + 1,
        new.at.astimezone(UTC),
        new.kind,
        new.actor.kind,
        clean(str(new.actor)),
        clean(new.text),
        new.state_from,
        new.state_to,
        plain(new.detail),
        head["head_hash"],
    )
    entry = replace(unsealed, hash=entry_hash(incident_id, unsealed))
    values = {
        "incident_id": incident_id,
        "entry": entry.number,
        "at": entry.at,
        "kind": entry.kind,
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "text": entry.text,
        "state_from": entry.state_from,
        "state_to": entry.state_to,
        "detail": json.dumps(entry.detail),
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }
    connection.execute(query("append_timeline_entry"), values)
    return entry


def entry_of_state(connection: Connection, incident_id: str) -> Entry:
    """Return the entry that led an incident to the state it is in."""
    return _entry(connection.execute(query("entry_of_state"), {"incident_id": incident_id}).one())


def read_timeline(connection: Connection, incident_id: str) -> list[Entry]:
    """Return the entries of a timeline in their order."""
    return [_entry(row) for row in connection.execute(query("read_timeline"), {"incident_id": incident_id})]


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        row.entry,
        row.at.astimezone(UTC),
        row.kind,
        row.actor_kind,
        row.actor,
        row.text,
        row.state_from,
        row.state_to,
        row.detail,
        row.previous_hash,
        row.hash,
    )
