"""The landing log of topics in PostgreSQL: rows and next offset in one transaction, fenced by an epoch."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.contracts.ddl import ENVELOPE
from incident_pipelines.core.contracts.decoder import POSTGRES_EPOCH
from incident_pipelines.core.landing import HourCount, LogBatch

LOGGER = logging.getLogger(__name__)

STUCK_SECONDS = 5
"""A new owner waits this long for a transaction of the one before; landing a batch takes well under one second."""
END_STUCK_OWNERS = """
SELECT activity.application_name, pg_terminate_backend(activity.pid)
FROM pg_stat_activity AS activity
WHERE activity.usename = current_user
  AND activity.pid <> pg_backend_pid()
  AND activity.xact_start < now() - make_interval(secs => %(seconds)s)
  AND activity.application_name IN (
      SELECT unnest(ARRAY[owner, owner || ' writer']) FROM landing.offsets WHERE topic = %(topic)s
  )
"""

StopReason = Literal["topic_recreated", "offset_beyond_end"]


class Fenced(Exception):
    """Another member has taken the partition over; nothing was committed."""


@dataclass(frozen=True)
class Claim:
    """A partition that this member alone may append to until somebody raises the epoch.

    Args:
        next: offset of the first record that is not in the log.
        stopped_reason: why nothing may be appended until ``landing resume``; None while active.
    """

    topic: str
    partition: int
    contract: str
    origin_id: int
    topic_id: str
    next: int
    epoch: int
    stopped_reason: str | None


class PostgresLandingLog:
    """One connection to the warehouse, for one thread.

    Args:
        url: warehouse URL of a role that may append.
        owner: name that others see as the partition's owner.
    """

    def __init__(self, url: str, owner: str) -> None:
        self._owner = owner
        self._connection = psycopg.connect(driver_url(url), application_name=owner[:63], connect_timeout=10)
        self._connection.execute("SET timezone = 'UTC'")
        self._connection.commit()
        self._copies: dict[str, sql.Composed] = {}

    def close(self) -> None:
        """Close the connection; a transaction under way is rolled back."""
        self._connection.close()

    def claim(self, contract: str, topic: str, topic_id: str, partition: int, first_offset: int) -> Claim:
        """Take a partition over: from here on whoever had it before commits nothing.

        Args:
            topic_id: the broker's id of the topic as it is now.
            first_offset: where to begin if the partition was never landed.

        Returns:
            The claim; it is stopped if the stored offset belongs to another incarnation of the topic.
        """
        try:
            return self._claim(contract, topic, topic_id, partition, first_offset)
        except psycopg.errors.LockNotAvailable:
            # A member that hangs, or whose machine does, in mid-transaction: it must not keep the partition from us.
            ended = self._connection.execute(END_STUCK_OWNERS, {"topic": topic, "seconds": STUCK_SECONDS}).fetchall()
            self._connection.commit()
            LOGGER.warning(
                "ended transactions that kept a partition",
                extra=fields(topic=topic, partition=partition, owners=[owner for owner, _ in ended]),
            )
        return self._claim(contract, topic, topic_id, partition, first_offset)

    def _claim(self, contract: str, topic: str, topic_id: str, partition: int, first_offset: int) -> Claim:
        with self._connection.transaction():
            self._connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{STUCK_SECONDS}s",))
            self._lock_topic(topic)
            stored = self._connection.execute(
                "SELECT o.origin_id, o.next, o.state, o.stopped_reason, g.topic_id FROM landing.offsets o "
                "JOIN landing.origins g USING (origin_id) WHERE o.topic = %s AND o.partition = %s FOR UPDATE OF o",
                (topic, partition),
            ).fetchone()
            if stored is None:
                recreated = self._connection.execute(
                    "SELECT 1 FROM landing.offsets o JOIN landing.origins g USING (origin_id) "
                    "WHERE o.topic = %s AND g.topic_id <> %s LIMIT 1",
                    (topic, topic_id),
                ).fetchone()
                origin_id = self._open_origin(contract, topic, topic_id)
                self._connection.execute(
                    "INSERT INTO landing.offsets (topic, partition, contract, origin_id, next) "
                    "VALUES (%s, %s, %s, %s, %s)",
                    (topic, partition, contract, origin_id, first_offset),
                )
                if recreated:
                    self._stop(contract, topic, None, "topic_recreated", {"topic_id": topic_id})
            elif stored[4] != topic_id and stored[2] == "active":
                self._stop(
                    contract, topic, None, "topic_recreated", {"topic_id": topic_id, "known_topic_id": stored[4]}
                )
            row = self._connection.execute(
                "UPDATE landing.offsets o SET epoch = epoch + 1, owner = %s, updated_at = now() FROM landing.origins g "
                "WHERE o.topic = %s AND o.partition = %s AND g.origin_id = o.origin_id "
                "RETURNING o.origin_id, g.topic_id, o.next, o.epoch, o.stopped_reason",
                (self._owner, topic, partition),
            ).fetchone()
        assert row is not None
        return Claim(topic, partition, contract, row[0], row[1], row[2], row[3], row[4])

    def append(self, claim: Claim, expected: int, following: int, batch: LogBatch) -> None:
        """Write rows and the next offset in one transaction, or nothing.

        Args:
            expected: next offset before the batch.
            following: next offset after it; may lie past the last row (markers, aborted or compacted records).
            batch: may be empty.

        Raises:
            Fenced: epoch or offset are not what this member left there.
        """
        with self._connection.transaction():
            failpoint("land.before_fence")
            moved = self._connection.execute(
                "UPDATE landing.offsets SET next = %s, updated_at = now() "
                "WHERE topic = %s AND partition = %s AND next = %s AND epoch = %s AND state = 'active'",
                (following, claim.topic, claim.partition, expected, claim.epoch),
            )
            if moved.rowcount != 1:
                raise Fenced(f"{claim.topic}[{claim.partition}] was taken over: epoch {claim.epoch} is not the latest")
            failpoint("land.after_fence")
            if batch.rows:
                with self._connection.cursor() as cursor, cursor.copy(self._copy(claim.contract)) as copy:
                    for piece in batch.copy_data():
                        copy.write(piece)
                failpoint("land.after_copy")
                raise_hours(self._connection, claim.contract, batch.origin_id, batch.partition, batch.hours)
            failpoint("land.before_commit")
        failpoint("land.after_commit")

    def record_gap(self, claim: Claim, log_start: int) -> Claim:
        """Write down the offsets that aged out before they were landed, and go on behind them, in one transaction.

        Args:
            log_start: first offset the broker still has; beyond ``claim.next``.

        Raises:
            Fenced: the partition belongs to somebody else by now.
        """
        with self._connection.transaction():
            self._fence(claim)
            last = self._connection.execute(
                sql.SQL(
                    "SELECT kafka_timestamp FROM {} WHERE origin_id = %s AND partition = %s "
                    "ORDER BY position DESC LIMIT 1"
                ).format(sql.Identifier("landing", claim.contract)),
                (claim.origin_id, claim.partition),
            ).fetchone()
            self._connection.execute(
                "INSERT INTO landing.gaps "
                "(contract, topic, partition, origin_id, from_offset, to_offset, last_landed_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    claim.contract,
                    claim.topic,
                    claim.partition,
                    claim.origin_id,
                    claim.next,
                    log_start,
                    last and last[0],
                ),
            )
            self._fact(
                "offsets_aged_out",
                claim.contract,
                {
                    "topic": claim.topic,
                    "partition": claim.partition,
                    "origin_id": claim.origin_id,
                    "from_offset": claim.next,
                    "to_offset": log_start,
                    "records_at_most": log_start - claim.next,
                },
            )
            failpoint("land.gap")
            self._connection.execute(
                "UPDATE landing.offsets SET next = %s, updated_at = now() WHERE topic = %s AND partition = %s",
                (log_start, claim.topic, claim.partition),
            )
        return Claim(
            claim.topic, claim.partition, claim.contract, claim.origin_id, claim.topic_id, log_start, claim.epoch, None
        )

    def stop_partition(self, claim: Claim, log_end: int) -> None:
        """Stop a partition whose stored offset lies beyond the end of the topic.

        Raises:
            Fenced: the partition belongs to somebody else by now.
        """
        with self._connection.transaction():
            self._fence(claim)
            detail = {"partition": claim.partition, "next": claim.next, "log_end": log_end, "topic_id": claim.topic_id}
            self._stop(claim.contract, claim.topic, claim.partition, "offset_beyond_end", detail)

    def stop_topic(self, contract: str, topic: str, topic_id: str, known_topic_id: str) -> None:
        """Stop all partitions of a topic that was deleted and made again; once for each incarnation."""
        with self._connection.transaction():
            self._lock_topic(topic)
            self._stop(
                contract, topic, None, "topic_recreated", {"topic_id": topic_id, "known_topic_id": known_topic_id}
            )

    def states(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Return the state, ``active`` or ``stopped``, of each partition that is known."""
        wanted = set(partitions)
        rows = self._connection.execute("SELECT topic, partition, state FROM landing.offsets").fetchall()
        self._connection.commit()
        return {(topic, partition): state for topic, partition, state in rows if (topic, partition) in wanted}

    def resume(
        self, topic: str, topic_id: str, offsets: Sequence[tuple[int, int]], note: str
    ) -> list[tuple[int, int, int]]:
        """Open a new origin for stopped partitions and let them go on.

        Args:
            topic_id: the broker's id of the topic as it is now.
            offsets: (partition, offset to go on from).
            note: who asked for it and why; kept with the origin.

        Returns:
            (partition, new origin, offset) of each partition.

        Raises:
            LookupError: a partition is not known, or not stopped.
        """
        done: list[tuple[int, int, int]] = []
        with self._connection.transaction():
            self._lock_topic(topic)
            for partition, offset in offsets:
                row = self._connection.execute(
                    "SELECT contract, state FROM landing.offsets WHERE topic = %s AND partition = %s FOR UPDATE",
                    (topic, partition),
                ).fetchone()
                if row is None or row[1] != "stopped":
                    state = "was never landed" if row is None else "is not stopped"
                    raise LookupError(f"{topic}:{partition} {state}; nothing was changed")
                # A fresh origin for each resume: positions may come again, and must not meet the old ones.
                origin_id = self._insert_origin(row[0], topic, topic_id, note)
                self._connection.execute(
                    "UPDATE landing.offsets SET origin_id = %s, next = %s, epoch = epoch + 1, state = 'active', "
                    "stopped_reason = NULL, updated_at = now() WHERE topic = %s AND partition = %s",
                    (origin_id, offset, topic, partition),
                )
                done.append((partition, origin_id, offset))
        return done

    def _fence(self, claim: Claim) -> None:
        held = self._connection.execute(
            "SELECT 1 FROM landing.offsets WHERE topic = %s AND partition = %s AND epoch = %s AND next = %s FOR UPDATE",
            (claim.topic, claim.partition, claim.epoch, claim.next),
        ).fetchone()
        if held is None:
            raise Fenced(f"{claim.topic}[{claim.partition}] was taken over: epoch {claim.epoch} is not the latest")

    def _stop(
        self, contract: str, topic: str, partition: int | None, reason: StopReason, detail: dict[str, Any]
    ) -> None:
        stopped = self._connection.execute(
            "UPDATE landing.offsets SET state = 'stopped', stopped_reason = %s, epoch = epoch + 1, updated_at = now() "
            "WHERE topic = %s AND (%s::integer IS NULL OR partition = %s) AND state = 'active' "
            "RETURNING partition, next",
            (reason, topic, partition, partition),
        ).fetchall()
        if stopped:
            stored = {str(number): position for number, position in stopped}
            self._fact(reason, contract, {"topic": topic, "stored_offsets": stored, **detail})

    def _fact(self, kind: str, dataset: str, detail: dict[str, Any]) -> None:
        self._connection.execute(
            "INSERT INTO landing.facts (kind, dataset, detail) VALUES (%s, %s, %s)", (kind, dataset, json.dumps(detail))
        )

    def _lock_topic(self, topic: str) -> None:
        self._connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('landing.topic:' || %s, 0))", (topic,))

    def _open_origin(self, contract: str, topic: str, topic_id: str) -> int:
        row = self._connection.execute(
            "SELECT origin_id FROM landing.origins WHERE topic = %s AND topic_id = %s ORDER BY origin_id LIMIT 1",
            (topic, topic_id),
        ).fetchone()
        return row[0] if row else self._insert_origin(contract, topic, topic_id, "first seen")

    def _insert_origin(self, contract: str, topic: str, topic_id: str, note: str) -> int:
        row = self._connection.execute(
            "INSERT INTO landing.origins (contract, kind, topic, topic_id, note) VALUES (%s, 'topic', %s, %s, %s) "
            "RETURNING origin_id",
            (contract, topic, topic_id, note),
        ).fetchone()
        assert row is not None
        return row[0]

    def _copy(self, contract: str) -> sql.Composed:
        statement = self._copies.get(contract)
        if statement is None:
            statement = self._copies[contract] = copy_statement(contract)
        return statement


def copy_statement(contract: str) -> sql.Composed:
    """Return the COPY that takes ``LogBatch.copy_data`` into a dataset's log."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in ENVELOPE)
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier("landing", contract), columns)


def raise_hours(
    connection: psycopg.Connection[Any], contract: str, origin_id: int, partition: int, hours: dict[int, HourCount]
) -> None:
    """Count a batch in landing.hours and raise the version of each hour it touches, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO landing.hours AS h (contract, hour, origin_id, partition, rows, dead_letters, first_position, "
            "last_position) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (contract, hour, origin_id, partition) "
            "DO UPDATE SET version = h.version + 1, rows = h.rows + excluded.rows, "
            "dead_letters = h.dead_letters + excluded.dead_letters, "
            "first_position = least(h.first_position, excluded.first_position), "
            "last_position = greatest(h.last_position, excluded.last_position), changed_at = now()",
            [
                (
                    contract,
                    hour_start(hour),
                    origin_id,
                    partition,
                    count.rows,
                    count.dead_letters,
                    count.first_position,
                    count.last_position,
                )
                for hour, count in sorted(hours.items())
            ],
        )


def hour_start(hour: int) -> datetime:
    """Return the start of an hour given in hours since 2000-01-01 UTC."""
    return (POSTGRES_EPOCH + timedelta(hours=hour)).astimezone(UTC)
