"""What is planned and done about incidents, in the control database: plans, actions and action items."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.timeline import EntryKind, clean, plain


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it was made.

    Args:
        digest: of its content: the same plan made again is the same plan.
        revision: of the incident, that it was made for.
    """

    plan_id: int
    incident_id: str
    digest: str
    revision: int
    body: Mapping[str, Any]
    made_at: datetime
    made_by: str
    approved_at: datetime | None
    approved_by: str | None


@dataclass(frozen=True)
class StoredAction:
    """An effect outside of the control database, and how far it is.

    Args:
        key: made from its content, so that it is intended once.
        undo: what its undoing needs.
    """

    incident_id: str
    key: str
    kind: str
    target: Mapping[str, Any]
    state: str
    intended_at: datetime
    intended_by: str
    attempts: int
    outcome: Mapping[str, Any] | None
    outcome_at: datetime | None
    undo: Mapping[str, Any] | None
    undone_at: datetime | None


@dataclass(frozen=True)
class ActionItem:
    """What somebody has promised to do, so that it does not happen again."""

    item: int
    text: str
    owner: str
    due: date | None
    added_at: datetime
    done_at: datetime | None
    done_by: str | None


def latest_plan(connection: Connection, incident_id: str) -> StoredPlan | None:
    """Return the plan of an incident that was made last; None if none was made."""
    row = connection.execute(query("latest_incident_plan"), {"incident_id": incident_id}).mappings().first()
    return None if row is None else StoredPlan(**row)


def plans_of(connection: Connection, incident_id: str) -> list[StoredPlan]:
    """Return the plans of an incident in the order in which they were made."""
    rows = connection.execute(query("incident_plans"), {"incident_id": incident_id}).mappings()
    return [StoredPlan(**row) for row in rows]


def store_plan(
    connection: Connection,
    incident_id: str,
    digest: str,
    revision: int,
    body: Mapping[str, Any],
    actor: Actor,
    now: datetime,
) -> bool:
    """Keep a plan, with its entry of the timeline.

    Returns:
        Whether it is new.
    """
    values = {
        "incident_id": incident_id,
        "digest": digest,
        "revision": revision,
        "body": json.dumps(plain(body)),
        "made_at": now,
        "made_by": str(actor),
    }
    if connection.execute(query("store_incident_plan"), values).scalar() is None:
        return False
    detail = {"digest": digest, "revision": revision}
    append_entry(connection, incident_id, NewEntry("plan_made", actor, f"plan {digest[:12]} made", now, detail=detail))
    return True


def approve_plan(connection: Connection, plan: StoredPlan, actor: Actor, now: datetime) -> bool:
    """Note that a person agrees to a plan, with its entry of the timeline; False if somebody has already."""
    values = {"plan_id": plan.plan_id, "actor": str(actor), "now": now}
    if connection.execute(query("approve_incident_plan"), values).rowcount != 1:
        return False
    entry = NewEntry("plan_approved", actor, f"plan {plan.digest[:12]} approved", now, detail={"digest": plan.digest})
    append_entry(connection, plan.incident_id, entry)
    return True


def intend_action(
    connection: Connection,
    incident_id: str,
    key: str,
    kind: str,
    target: Mapping[str, Any],
    actor: Actor,
    text: str,
    now: datetime,
) -> bool:
    """Write down what is about to be done; to be committed before it is done.

    Args:
        key: from the content of the action (and of its incident), so that two who want the same intend it once.
        text: what will be done, for whoever reads the timeline.

    Returns:
        Whether it is new.
    """
    values = {
        "incident_id": incident_id,
        "key": key,
        "kind": kind,
        "target": json.dumps(plain(target)),
        "now": now,
        "actor": str(actor),
    }
    if connection.execute(query("intend_incident_action"), values).scalar() is None:
        return False
    detail = {"key": key, "action": kind, "target": target}
    append_entry(connection, incident_id, NewEntry("action_intended", actor, text, now, detail=detail))
    return True


def retry_action(connection: Connection, key: str) -> int | None:
    """Count one more attempt at an action that has no outcome or a bad one; None if it is done or undone already."""
    return connection.execute(query("retry_incident_action"), {"key": key}).scalar()


def finish_action(
    connection: Connection,
    key: str,
    state: Literal["done", "failed"],
    outcome: Mapping[str, Any],
    actor: Actor,
    text: str,
    now: datetime,
    undo: Mapping[str, Any] | None = None,
) -> bool:
    """Write down how an action went; False if that is known already."""
    values = {
        "key": key,
        "state": state,
        "outcome": json.dumps(plain(outcome)),
        "undo": None if undo is None else json.dumps(plain(undo)),
        "now": now,
    }
    row = connection.execute(query("finish_incident_action"), values).first()
    kind: EntryKind = "action_done" if state == "done" else "action_failed"
    return _told(connection, row, NewEntry(kind, actor, text, now, detail={"key": key, "outcome": outcome}))


def undo_action(connection: Connection, key: str, actor: Actor, text: str, now: datetime) -> bool:
    """Write down that an action was undone; False if there is nothing to undo."""
    row = connection.execute(query("undo_incident_action"), {"key": key, "actor": str(actor), "now": now}).first()
    return _told(connection, row, NewEntry("action_undone", actor, text, now, detail={"key": key}))


def read_actions(
    connection: Connection, incident_id: str | None = None, *, only_intended: bool = False
) -> list[StoredAction]:
    """Return actions in the order of their intents.

    Args:
        incident_id: None for those of all incidents.
        only_intended: those without an outcome, which have to be taken up again.
    """
    values = {"incident_id": incident_id, "only_intended": only_intended}
    return [
        StoredAction(
            row["incident_id"],
            row["key"],
            row["kind"],
            row["target"],
            row["state"],
            row["intended_at"],
            row["intended_by"],
            row["attempts"],
            row["outcome"],
            row["outcome_at"],
            row["undo"],
            row["undone_at"],
        )
        for row in connection.execute(query("incident_actions"), values).mappings()
    ]


def add_action_item(
    connection: Connection, incident_id: str, text: str, owner: str, due: date | None, actor: Actor, now: datetime
) -> int:
    """Write down a promise, and return its number within the incident; the incident has to be locked."""
    values = {
        "incident_id": incident_id,
        "text": clean(text),
        "owner": clean(owner),
        "due": due,
        "now": now,
        "actor": str(actor),
    }
    item = int(connection.execute(query("add_incident_action_item"), values).scalar_one())
    told = f"action item {item} for {owner}{f', due {due:%Y-%m-%d}' if due else ''}: {text}"
    entry = NewEntry("action_item_added", actor, told, now, detail={"item": item, "owner": owner, "due": due})
    append_entry(connection, incident_id, entry)
    return item


def finish_action_item(connection: Connection, incident_id: str, item: int, actor: Actor, now: datetime) -> bool:
    """Note that a promise was kept; False if there is no open one of that number."""
    values = {"incident_id": incident_id, "item": item, "actor": str(actor), "now": now}
    if connection.execute(query("finish_incident_action_item"), values).rowcount != 1:
        return False
    entry = NewEntry("action_item_done", actor, f"action item {item} done", now, detail={"item": item})
    append_entry(connection, incident_id, entry)
    return True


def action_items(connection: Connection, incident_id: str) -> list[ActionItem]:
    """Return the action items of an incident."""
    return [
        ActionItem(row.item, row.text, row.owner, row.due, row.added_at.astimezone(UTC), row.done_at, row.done_by)
        for row in connection.execute(query("incident_action_items"), {"incident_id": incident_id})
    ]


def _told(connection: Connection, row: Any, entry: NewEntry) -> bool:
    if row is None:
        return False
    append_entry(connection, row.incident_id, entry)
    return True
