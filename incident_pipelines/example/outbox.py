"""Sends what stands in an outbox to Kafka, in order, in transactions, and marks it as published."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec
import psycopg
from confluent_kafka import KafkaException, Producer

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.databases import connect, database_name, statement
from incident_pipelines.example.events import Event
from incident_pipelines.example.topics import RecordTimestamps

BATCH_ROWS = 10_000
TRANSACTION_TIMEOUT_SECONDS = 30.0
COMMIT_ATTEMPTS = 3


class LaneTaken(SourceUnavailable):
    """Another process relays this lane."""


class _Counted(msgspec.Struct):
    amount: Decimal
    region: str
    platform: str


_decode = msgspec.json.Decoder(_Counted).decode


class OutboxRelay:
    """Relays one lane of one outbox; at most one relay does so at a time.

    The lane belongs to whoever holds its advisory lock. A relay that lost the lock with its connection but still has a
    transaction under way is fenced: its successor takes the same transactional id. So a consumer of committed records
    sees an event twice only if a relay died between Kafka's commit and the mark, and then under the same event_id.

    Args:
        url: database with the outbox.
        lane: which of its lanes.
        kafka: bootstrap servers.
        transactional_id: the same for every relay of this lane.
        acknowledged: called with each batch after Kafka committed it and before it is marked; a batch may come twice.
        topic_prefix: put before the topics' names.
        timestamps: shared with others to count together.
    """

    def __init__(
        self,
        url: str,
        lane: str,
        kafka: str,
        transactional_id: str,
        acknowledged: Callable[[Sequence[Event]], None],
        topic_prefix: str = "",
        timestamps: RecordTimestamps | None = None,
    ) -> None:
        self._url = url
        self._lane = lane
        self._kafka = kafka
        self._transactional_id = transactional_id
        self._acknowledged = acknowledged
        self._topic_prefix = topic_prefix
        self._timestamps = timestamps or RecordTimestamps(kafka)
        self._connection: psycopg.Connection | None = None
        self._producer: Producer | None = None

    def relay_batch(self) -> int:
        """Send the oldest rows that are not published and return how many.

        Raises:
            LaneTaken: another process relays this lane.
            SourceUnavailable: the database or Kafka failed; nothing is lost, call again later.
        """
        try:
            connection = self._connected()
            with connection.cursor(binary=True) as cursor:
                rows = cursor.execute(statement("unpublished"), (self._lane, BATCH_ROWS)).fetchall()
            if not rows:
                return 0
            events = [_event(row) for row in rows]
            self._send(events)
            self._acknowledged(events)
            connection.execute(statement("mark_published"), (self._lane, [row[0] for row in rows]))
            return len(events)
        except psycopg.Error as error:
            self.close()
            raise SourceUnavailable(f"outbox of {database_name(self._url)}: {error}".strip()) from error
        except (KafkaException, BufferError) as error:
            self.close()
            raise SourceUnavailable(f"Kafka at {self._kafka} did not take a transaction: {error}") from error

    def drain(self) -> int:
        """Relay until nothing is left and return how many were sent.

        Raises:
            SourceUnavailable: as `relay_batch`.
        """
        total = 0
        while sent := self.relay_batch():
            total += sent
        return total

    def close(self) -> None:
        """Give the lane up; the next batch takes it again."""
        if self._producer is not None:
            # Without a broker there is nothing to wait for; an open transaction is aborted by the next relay's start.
            self._producer.close()
            self._producer = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            connection = connect(self._url, autocommit=True, application=f"outbox relay {self._lane}")
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtext('outbox relay'), hashtext(%s))", (self._lane,)
            ).fetchone()
            if not row or not row[0]:
                connection.close()
                raise LaneTaken(
                    f"outbox lane {self._lane!r} of {database_name(self._url)} is being relayed by another process"
                )
            self._connection = connection
        return self._connection

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            producer = Producer(
                {
                    "bootstrap.servers": self._kafka,
                    "transactional.id": self._transactional_id,
                    "transaction.timeout.ms": 60_000,
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    # As Java clients place keys.
                    "partitioner": "murmur2_random",
                    "queue.buffering.max.messages": 2 * BATCH_ROWS,
                    # Errors come out of the calls; the log would repeat them every second of an outage.
                    "log_level": 0,
                }
            )
            producer.init_transactions(TRANSACTION_TIMEOUT_SECONDS)
            self._producer = producer
        return self._producer

    def _send(self, events: Sequence[Event]) -> None:
        by_topic: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            by_topic[event.topic].append(event)
        producer = self._ready_producer()
        producer.begin_transaction()
        for topic, group in by_topic.items():
            name = self._topic_prefix + topic
            stamps = self._timestamps.of(name, [event.time_us for event in group])
            for event, stamp in zip(group, stamps, strict=True):
                producer.produce(name, value=event.value, key=event.key, timestamp=stamp)
        for attempt in range(1, COMMIT_ATTEMPTS + 1):
            try:
                # Fails if a single record was not taken.
                producer.commit_transaction(TRANSACTION_TIMEOUT_SECONDS)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or attempt == COMMIT_ATTEMPTS:
                    raise


def _event(row: Sequence[object]) -> Event:
    _, event_id, topic, event_type, correlation_id, value, time_us = row
    assert isinstance(value, bytes)
    assert isinstance(time_us, int)
    counted = _decode(value)
    return Event(
        time_us,
        str(topic),
        str(event_type),
        str(event_id),
        str(correlation_id),
        counted.region,
        counted.platform,
        int(counted.amount.scaleb(2)),
        value,
    )
