"""The timeline of an incident: entries of which each seals the one before by its hash.

Whoever changes, takes out or puts in an entry has to change every hash after it, and the incident's own record of how
many entries there are and how the last one hashes. Whoever can change all of that, can still be told by a hash that
was written down elsewhere: reports carry it.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast

from incident_pipelines.core.incidents.incident import ActorKind, State

EntryKind = Literal[
    "opened",
    "signal_joined",
    "severity_raised",
    "state_changed",
    "acknowledged",
    "noted",
    "plan_made",
    "plan_approved",
    "stopped",
    "resumed",
    "replayed",
    "action_intended",
    "action_done",
    "action_failed",
    "action_undone",
    "action_item_added",
    "action_item_done",
]
FIRST_HASH = "0" * 64
_PASSWORD = re.compile(r"(\w://[^\s:/@]*):[^\s@]+@")


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Args:
        number: from 1, without gaps.
        at: aware.
        actor: as shown; `actor_kind` says what it is.
        state_from, state_to: where the entry is a change of state.
        detail: in types that JSON and the database keep as they are (see `plain`).
        previous_hash: hash of the entry before, `FIRST_HASH` for the first.
    """

    number: int
    at: datetime
    kind: EntryKind
    actor_kind: ActorKind
    actor: str
    text: str
    state_from: State | None = None
    state_to: State | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    previous_hash: str = FIRST_HASH
    hash: str = ""


@dataclass(frozen=True)
class Tampering:
    """What is wrong with a timeline, and at which entry it shows first."""

    entry: int
    what: str


def entry_hash(incident_id: str, entry: Entry) -> str:
    """Return sha256 (hex) over the hash of the entry before and the entry's canonical JSON."""
    content = {
        "incident_id": incident_id,
        "entry": entry.number,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": entry.kind,
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "text": entry.text,
        "state_from": entry.state_from,
        "state_to": entry.state_to,
        "detail": entry.detail,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256((entry.previous_hash + canonical).encode("ascii")).hexdigest()


def tamperings(incident_id: str, entries: Sequence[Entry], count: int, head_hash: str) -> list[Tampering]:
    """Return everything that is wrong with a timeline, in the order of entries; nothing if it is whole.

    Args:
        entries: in their order.
        count, head_hash: what the incident itself says of its timeline.
    """
    found: list[Tampering] = []
    previous, expected = FIRST_HASH, 1
    for entry in entries:
        if entry.number != expected:
            gone = f"entry {expected}" if entry.number == expected + 1 else f"entries {expected} to {entry.number - 1}"
            found.append(Tampering(expected, f"{gone} missing"))
        elif entry.previous_hash != previous:
            found.append(Tampering(entry.number, f"entry {entry.number} does not follow the entry before it"))
        if entry_hash(incident_id, entry) != entry.hash:
            found.append(Tampering(entry.number, f"entry {entry.number} was changed"))
        previous, expected = entry.hash, entry.number + 1
    if expected - 1 < count:
        found.append(Tampering(expected, f"entries {expected} to {count} missing at the end"))
    elif expected - 1 > count:
        found.append(Tampering(count + 1, f"entries after {count} were added behind the incident's back"))
    elif previous != (head_hash or FIRST_HASH):
        found.append(Tampering(count, "the last entry is not the one that the incident knows"))
    return found


def clean(text: str) -> str:
    """Return a text as the timeline keeps it: no NUL, no lone surrogate, no password in an address."""
    kept = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\u0000")
    return _PASSWORD.sub(r"\1:…@", kept)


def plain(value: object) -> Any:
    """Return a value in types that come back from the database as they were, so that they hash alike."""
    match value:
        case None | bool() | int():
            return value
        case float():
            text = repr(value)
            return text if not math.isfinite(value) or "e" in text else (value or 0.0)
        case str():
            return clean(value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {clean(str(k)): plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
        case list() | tuple():
            return [plain(one) for one in cast(Sequence[Any], value)]
        case _:
            return clean(str(value))
