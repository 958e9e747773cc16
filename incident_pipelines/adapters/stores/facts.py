"""Facts in the warehouse, read by the transactions that have all ended."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.signals import Fact

PAGE = 1_000


@dataclass(frozen=True)
class StoredFact:
    """A fact and its detail as it is stored, which Python's JSON might change (1e400, very long numbers)."""

    fact: Fact
    detail_json: str


@dataclass(frozen=True)
class WaitingFacts:
    """Facts that cannot be read yet, because a transaction that is older than they are still runs."""

    count: int
    since: datetime


def ended_before(warehouse: Connection) -> int:
    """Return the oldest transaction that still runs: all below it have ended.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"):
        return int(warehouse.execute(query("facts_end")).scalar_one())


def facts_between(warehouse: Connection, start: int, end: int) -> Iterator[StoredFact]:
    """Yield the facts of transactions from `start` up to, not with, `end`, in the order of the transactions.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    after = (0, 0)
    while True:
        values = {"start": str(start), "end": str(end), "after_xid": str(after[0]), "after_id": after[1], "page": PAGE}
        with available("warehouse"):
            rows = warehouse.execute(query("facts_between"), values).all()
        for row in rows:
            fact = Fact(
                row.fact_id,
                row.kind,
                row.dataset,
                row.window_start,
                row.window_end,
                _detail(row.detail),
                row.recorded_at,
            )
            yield StoredFact(fact, row.detail)
        if len(rows) < PAGE:
            return
        after = (int(rows[-1].xid), rows[-1].fact_id)


def waiting_facts(warehouse: Connection, end: int, seconds: float) -> WaitingFacts | None:
    """Return the facts older than `seconds` that lie at or past transaction `end`; None if there are none.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"):
        row = warehouse.execute(query("facts_waiting"), {"end": str(end), "seconds": seconds}).one()
    return WaitingFacts(row.facts, row.since) if row.facts else None


def _detail(text: str) -> dict[str, Any]:
    try:
        detail = json.loads(text)
    except (ValueError, RecursionError):  # what jsonb can hold and Python cannot read
        return {}
    return cast(dict[str, Any], detail) if isinstance(detail, dict) else {}
