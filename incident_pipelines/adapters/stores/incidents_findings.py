"""What was found out about incidents: scope, replay, proof and loss, in the control database."""

from datetime import datetime
from typing import Literal, TypeVar

import msgspec
from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.recovery.proof import Proof, Replayed, Unread
from incident_pipelines.core.windows import TimeWindow

FindingKind = Literal["scope", "replay", "proof", "loss"]

_Finding = TypeVar("_Finding")


def store_finding(
    connection: Connection, incident_id: str, kind: FindingKind, revision: int, finding: object, now: datetime
) -> None:
    """Keep what was found out; what was found before stays.

    Args:
        finding: a dataclass of plain values.
    """
    values = {
        "incident_id": incident_id,
        "kind": kind,
        "revision": revision,
        "body": msgspec.json.encode(finding).decode(),
        "found_at": now,
    }
    connection.execute(query("store_finding"), values)


def latest_finding(
    connection: Connection, incident_id: str, kind: FindingKind, form: type[_Finding]
) -> _Finding | None:
    """Return what was found out last of a kind; None if nothing was.

    Args:
        form: the dataclass that it was stored as.
    """
    body = connection.execute(query("latest_finding"), {"incident_id": incident_id, "kind": kind}).scalar()
    return None if body is None else msgspec.convert(body, form)


def unread_spans(connection: Connection, incident_id: str) -> dict[str, tuple[Unread, ...]]:
    """Return what each plan of an incident could not read to its end when it was carried out last, by plan digest."""
    rows = connection.execute(query("replay_findings"), {"incident_id": incident_id})
    return {one.digest: one.unread for one in (msgspec.convert(body, Replayed) for (body,) in rows)}


def stated_losses(connection: Connection, incident_id: str) -> dict[tuple[str, datetime], int]:
    """Return how many events other incidents have stated to be gone for good, by dataset and hour.

    What a source that did not answer may still have was never stated to be gone.
    """
    found: dict[tuple[str, datetime], int] = {}
    for (body,) in connection.execute(query("stated_losses"), {"incident_id": incident_id}):
        for one in msgspec.convert(body, Proof).recounted:
            if one.missing and not one.silent:
                hour = TimeWindow.hour_of(one.window.start).start
                found[one.dataset, hour] = found.get((one.dataset, hour), 0) + one.missing
    return found
