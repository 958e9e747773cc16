"""Appends to the landing log what comes from no topic: history, extracts, recoveries, redrives, corrections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from incident_pipelines.adapters.stores.landing_log import copy_statement, raise_hours
from incident_pipelines.core.contracts.decoder import Envelope
from incident_pipelines.core.landing import LogBatch

OriginKind = Literal["history", "extract", "recovery", "redrive", "correction"]

_PARTITION = 0


@dataclass(frozen=True)
class LogRow:
    """One row to append.

    Args:
        timestamp: when it was sent, in microseconds since 2000-01-01 UTC; None where that is not known.
    """

    envelope: Envelope
    value: bytes
    key: bytes | None = None
    timestamp: int | None = None


@dataclass(frozen=True)
class AppendedRows:
    """Where rows went: `count` positions of the origin's partition 0 from `first_position` on."""

    origin_id: int
    first_position: int
    count: int


def append(
    connection: psycopg.Connection[Any],
    contract: str,
    kind: OriginKind,
    rows: Sequence[LogRow],
    *,
    landed_at: int,
    note: str | None = None,
) -> AppendedRows:
    """Append rows in the order given, in the caller's transaction; others that append to the origin wait for its end.

    Args:
        contract: name of the dataset.
        kind: with `contract` and `note` it names the origin, which is opened by the first append.
        landed_at: microseconds since 2000-01-01 UTC.
    """
    origin_id = _origin(connection, contract, kind, note)
    taken = connection.execute(
        "INSERT INTO landing.positions AS p (origin_id, partition, next) VALUES (%s, %s, %s) "
        "ON CONFLICT (origin_id, partition) DO UPDATE SET next = p.next + excluded.next RETURNING next",
        (origin_id, _PARTITION, len(rows)),
    ).fetchone()
    assert taken is not None
    first = taken[0] - len(rows)
    batch = LogBatch(origin_id, _PARTITION, landed_at)
    for position, row in enumerate(rows, first):
        batch.add(position, row.envelope, row.value, kafka_timestamp=row.timestamp, key=row.key)
    if rows:
        with connection.cursor() as cursor, cursor.copy(copy_statement(contract)) as copy:
            copy.write(batch.copy_data())
        raise_hours(connection, contract, origin_id, _PARTITION, batch.hours)
    return AppendedRows(origin_id, first, len(rows))


def _origin(connection: psycopg.Connection[Any], contract: str, kind: OriginKind, note: str | None) -> int:
    found = _find_origin(connection, contract, kind, note)
    if found is None:
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('landing origin ' || %s, 0))", (f"{contract} {kind}",)
        )
        found = _find_origin(connection, contract, kind, note)
    if found is None:
        found = connection.execute(
            "INSERT INTO landing.origins (contract, kind, note) VALUES (%s, %s, %s) RETURNING origin_id",
            (contract, kind, note),
        ).fetchone()
    assert found is not None
    return found[0]


def _find_origin(
    connection: psycopg.Connection[Any], contract: str, kind: OriginKind, note: str | None
) -> tuple[Any, ...] | None:
    return connection.execute(
        "SELECT origin_id FROM landing.origins WHERE contract = %s AND kind = %s AND note IS NOT DISTINCT FROM %s "
        "ORDER BY origin_id LIMIT 1",
        (contract, kind, note),
    ).fetchone()
