"""What can be done to keep an incident from getting worse, and how it is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, assert_never

from incident_pipelines.core.incidents.holds import HoldKind
from incident_pipelines.core.windows import TimeWindow


@dataclass(frozen=True)
class RestoreRetention:
    """Put a topic's retention back to what it was, at least its floor, so that nothing more ages out."""

    topic: str


@dataclass(frozen=True)
class StartLanders:
    """Start the landers that do not run."""


@dataclass(frozen=True)
class HoldWindows:
    """Keep windows from being published by anybody but the incident.

    Args:
        window: every window of the dataset that overlaps it.
    """

    kind: HoldKind
    dataset: str
    window: TimeWindow
    reason: str


@dataclass(frozen=True)
class RevokeWrites:
    """Take from a role the right to change a published table, ``raw.orders``."""

    role: str
    table: str


@dataclass(frozen=True)
class RevokeAccess:
    """Take from everybody but the pipeline itself all rights on tables."""

    tables: tuple[str, ...]


ContainmentAction = RestoreRetention | StartLanders | HoldWindows | RevokeWrites | RevokeAccess

KINDS: Mapping[type[ContainmentAction], str] = {
    RestoreRetention: "restore_retention",
    StartLanders: "start_landers",
    HoldWindows: "hold_windows",
    RevokeWrites: "revoke_writes",
    RevokeAccess: "revoke_access",
}


def is_ours_to_undo(action: ContainmentAction) -> bool:
    """Whether it is reversible and touches nothing that belongs to others: mode `propose` allows it."""
    match action:
        case StartLanders() | HoldWindows():
            return True
        case RestoreRetention() | RevokeWrites() | RevokeAccess():
            return False
        case _:
            assert_never(action)


def described(action: ContainmentAction) -> str:
    """Return what an action does, in a few words."""
    match action:
        case RestoreRetention(topic=topic):
            return f"put the retention of topic {topic} back to its floor"
        case StartLanders():
            return "start the landers that do not run"
        case HoldWindows(kind=kind, dataset=dataset, window=window):
            return f"{kind} {dataset} {window}"
        case RevokeWrites(role=role, table=table):
            return f"revoke writes on {table} from {role}"
        case RevokeAccess(tables=tables):
            return f"revoke all access to {', '.join(tables)}"
        case _:
            assert_never(action)


def target_of(action: ContainmentAction) -> dict[str, Any]:
    """Return an action as it is written down; `action_from` reads it."""
    what = {"what": described(action)}
    match action:
        case RestoreRetention(topic=topic):
            return {**what, "topic": topic}
        case StartLanders():
            return what
        case HoldWindows(kind=kind, dataset=dataset, window=window, reason=reason):
            span = {"window_start": window.start.isoformat(), "window_end": window.end.isoformat()}
            return {**what, "hold": kind, "dataset": dataset, **span, "reason": reason}
        case RevokeWrites(role=role, table=table):
            return {**what, "role": role, "table": table}
        case RevokeAccess(tables=tables):
            return {**what, "tables": list(tables)}
        case _:
            assert_never(action)


def action_from(kind: str, target: Mapping[str, Any]) -> ContainmentAction | None:
    """Return the action that was written down; None if its kind is none of containment's."""
    match kind:
        case "restore_retention":
            return RestoreRetention(target["topic"])
        case "start_landers":
            return StartLanders()
        case "hold_windows":
            start, end = (datetime.fromisoformat(target[name]) for name in ("window_start", "window_end"))
            return HoldWindows(target["hold"], target["dataset"], TimeWindow(start, end), target["reason"])
        case "revoke_writes":
            return RevokeWrites(target["role"], target["table"])
        case "revoke_access":
            return RevokeAccess(tuple(target["tables"]))
        case _:
            return None


def key_of(incident_id: str, action: ContainmentAction) -> str:
    """Return the key under which an incident intends an action, made from what it does."""
    parts: Iterable[object]
    match action:
        case HoldWindows(kind=kind, dataset=dataset, window=window):
            # Why is told, and is not what is done.
            parts = (kind, dataset, window.start.isoformat(), window.end.isoformat())
        case RestoreRetention(topic=topic):
            parts = (topic,)
        case StartLanders():
            parts = ()
        case RevokeWrites(role=role, table=table):
            parts = (role, table)
        case RevokeAccess(tables=tables):
            parts = tables
        case _:
            assert_never(action)
    digest = sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
    return f"{incident_id}:contain:{KINDS[type(action)]}:{digest}"
