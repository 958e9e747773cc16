"""Appends to the landing log what comes from no topic: history, extracts, recoveries, redrives, corrections."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from incident_pipelines.adapters.stores.landing_log import copy_statement, raise_hours
from incident_pipelines.core.contracts.decoder import POSTGRES_EPOCH, Envelopes
from incident_pipelines.core.landing import LogBatch, Messages

OriginKind = Literal["history", "extract", "recovery", "redrive", "correction"]

_PARTITION = 0
_ARRAY_HEAD = struct.Struct(">iiIii")  # dimensions, has nulls, type of the items, their number, first index
_INSTANT = np.dtype([("length", ">i4"), ("instant", ">i8")])

# By their very times, which the index has: a batch may hold events of a whole day, and the log millions of that day.
_IN_LOG = """
SELECT DISTINCT coalesce(event_id, md5(value)) FROM {log}
WHERE event_time BETWEEN %(first)s AND %(last)s AND event_time = ANY(%(times)b)
  AND coalesce(event_id, md5(value)) = ANY(%(ids)b)
"""
_POSITION = """
SELECT count(*), sum(version) FROM landing.hours
WHERE contract = %s AND hour BETWEEN date_trunc('hour', %s::timestamptz, 'UTC') AND %s
"""


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
    messages: Messages,
    envelopes: Envelopes,
    *,
    landed_at: int,
    note: str | None = None,
) -> AppendedRows:
    """Append messages in their order in the caller's transaction; others that append to the origin wait for its end.

    Args:
        contract: name of the dataset.
        kind: with `contract` and `note` it names the origin, which is opened by the first append.
        landed_at: microseconds since 2000-01-01 UTC.
    """
    origin_id, count = _origin(connection, contract, kind, note), len(messages.values)
    taken = connection.execute(
        "INSERT INTO landing.positions AS p (origin_id, partition, next) VALUES (%s, %s, %s) "
        "ON CONFLICT (origin_id, partition) DO UPDATE SET next = p.next + excluded.next RETURNING next",
        (origin_id, _PARTITION, count),
    ).fetchone()
    assert taken is not None
    first = taken[0] - count
    batch = LogBatch(origin_id, _PARTITION, landed_at)
    if count:
        batch.add(range(first, first + count), messages, envelopes)
        with connection.cursor() as cursor, cursor.copy(copy_statement(contract)) as copy:
            for piece in batch.copy_data():
                copy.write(piece)
        raise_hours(connection, contract, origin_id, _PARTITION, batch.hours)
    return AppendedRows(origin_id, first, count)


def events_in_log(
    connection: psycopg.Connection[Any], contract: str, ids: Sequence[str], times: NDArray[np.int64]
) -> set[str]:
    """Return the ids that the log has at one of some times; a dead letter without an id is told apart by its MD5.

    Args:
        contract: name of the dataset.
        times: event times, at least one, in microseconds since 2000-01-01 UTC.
    """
    first, last = _ends(times)
    values = {"ids": list(ids), "times": _Instants(times), "first": first, "last": last}
    # Planned for these values: only so does it pick an index or a hash as they are few or many.
    with connection.cursor(binary=True) as cursor:
        cursor.adapters.register_dumper(_Instants, _InstantsDumper)
        found = cursor.execute(sql.SQL(_IN_LOG).format(log=sql.Identifier("landing", contract)), values, prepare=False)
        return {event_id for (event_id,) in found}


def hours_in_log(
    connection: psycopg.Connection[Any], contract: str, times: NDArray[np.int64]
) -> tuple[int, int | None]:
    """Return what differs as soon as anything is appended to the hours of some times, which are as above."""
    row = connection.execute(_POSITION, (contract, *_ends(times))).fetchone()
    assert row is not None
    return row[0], row[1]


def keep_other_replays_out(connection: psycopg.Connection[Any], contract: str) -> None:
    """Let nobody else replay events of a dataset until the caller's transaction ends; waits for whoever does."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('replay ' || %s, 0))", (contract,))


@dataclass(frozen=True)
class _Instants:
    """An array of timestamptz, as microseconds since 2000-01-01 UTC: without an object for each."""

    times: NDArray[np.int64]


class _InstantsDumper(Dumper):
    format = Format.BINARY
    oid = psycopg.postgres.types["timestamptz"].array_oid

    def dump(self, obj: _Instants) -> bytes:
        """Write PostgreSQL's binary form of a one-dimensional array: that is how it counts time itself."""
        items = np.empty(len(obj.times), _INSTANT)
        items["length"], items["instant"] = 8, obj.times
        return _ARRAY_HEAD.pack(1, 0, psycopg.postgres.types["timestamptz"].oid, len(items), 1) + items.tobytes()


def _ends(times: NDArray[np.int64]) -> tuple[datetime, datetime]:
    first, last = (POSTGRES_EPOCH + timedelta(microseconds=int(at)) for at in (times.min(), times.max()))
    return first, last


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
