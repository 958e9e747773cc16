"""Which unfinished cases were completed, and how their calls ended, in the control database."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.timeline import clean
from incident_pipelines.core.salvage import Candidate, State


def intend_salvage(
    connection: Connection, salvage: str, candidate: Candidate, incident_id: str | None, actor: Actor, now: datetime
) -> None:
    """Write down that a case is about to be completed; to be committed before the call."""
    values = {
        "salvage": salvage,
        "key": candidate.key,
        "incident_id": incident_id,
        "amount": candidate.amount,
        "currency": candidate.currency,
        "since": candidate.since,
        "actor": str(actor),
        "now": now,
    }
    connection.execute(query("intend_salvage"), values)


def finish_salvage(connection: Connection, salvage: str, key: str, state: State, told: str, now: datetime) -> None:
    """Write down how the call for a case ended."""
    values = {"salvage": salvage, "key": key, "state": state, "outcome": clean(told)[:500], "now": now}
    connection.execute(query("finish_salvage"), values)


def refused_salvages(connection: Connection, salvage: str, keys: Sequence[str]) -> dict[str, str]:
    """Return which of some cases the application has refused for good, and how it said so."""
    rows = connection.execute(query("refused_salvages"), {"salvage": salvage, "keys": list(keys)})
    return {row.key: row.outcome or "" for row in rows}


def salvage_totals(connection: Connection, salvage: str | None, incident_id: str | None) -> Mapping[State, int]:
    """Return how many cases of an incident, or of none, ended how.

    Args:
        salvage: name of one; None for all of them together.
    """
    rows = connection.execute(query("salvage_totals"), {"salvage": salvage, "incident_id": incident_id})
    return {row.state: int(row.cases) for row in rows}
