"""What was found out about incidents: scope, proof and loss, in the control database."""

from datetime import datetime
from typing import Literal, TypeVar

import msgspec
from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query

FindingKind = Literal["scope", "proof", "loss"]

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
