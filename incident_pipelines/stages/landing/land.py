"""Topics → landing log, exactly once: rows and the next offset are one transaction of the warehouse."""

import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

import msgspec
import psycopg
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from incident_pipelines.adapters.kafka.consumer import OffsetBounds, TopicIds, landing_consumer, offset_bounds
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.landing_log import Claim, Fenced, PostgresLandingLog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import EPOCH_MILLISECONDS, microseconds
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.core.landing import LogBatch, Messages

LOGGER = logging.getLogger(__name__)

GROUP = "incident-pipelines"
BATCH_ROWS = 10_000
BATCH_BYTES = 6_000_000
FETCH_RECORDS = 2_000
LINGER_SECONDS = 0.2
"""A batch that is not full is written after this long once the topic's end is near."""
BACKLOG_LINGER_SECONDS = 2.0
"""The same while there is a backlog: larger transactions carry more rows a second."""
SWITCH_SECONDS = 0.0005
"""How long decoding may keep the interpreter while the writer waits for it; Python's default of 5 ms at each answer of
the warehouse would halve the throughput."""
QUEUED_BATCHES = 3
"""Batches on their way to the warehouse; more would only cost memory."""
LOOK_AROUND_SECONDS = 2.0
"""How often topic ids and stopped partitions are looked at."""
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 15.0
MAX_FENCES = 4
FENCES_WITHIN_SECONDS = 120.0


class MemberFenced(IncidentPipelinesError):
    """Another lander runs under the same member name."""


class _SessionOver(Exception):
    """What is assigned has to be looked at afresh: close, join again, claim again."""


@dataclass(slots=True)
class _Partition:
    claim: Claim
    decoder: MessageDecoder
    batch: LogBatch
    expected: int
    """next offset in the log once everything that is queued has been written"""
    following: int
    """next offset once the open batch has been written as well"""
    opened: float = field(default_factory=time.monotonic)


class _Writer(threading.Thread):
    """Writes batches while the next ones are read and decoded.

    The topic's id is asked for after a batch was fetched and before it is committed: ids are never used again, so the
    same id means that the records came from the incarnation they are written under.
    """

    def __init__(self, log: PostgresLandingLog, topic_ids: TopicIds) -> None:
        super().__init__(name="lander-writer", daemon=True)
        self._log = log
        self._topic_ids = topic_ids
        self._queue: queue.Queue[tuple[Claim, int, int, LogBatch] | None] = queue.Queue(QUEUED_BATCHES)
        self.failure: Exception | None = None
        self.fenced: list[Claim] = []
        self.committed: dict[tuple[str, int], int] = {}
        self.rows = 0

    def run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self.failure is None:
                    self._write(*item)
            except Fenced:
                self.fenced.append(item[0])
            except Exception as error:
                self.failure = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, claim: Claim, expected: int, following: int, batch: LogBatch) -> None:
        if self._topic_ids([claim.topic]).get(claim.topic) != claim.topic_id:
            raise _SessionOver(f"topic {claim.topic} is not the one that was claimed")
        self._log.append(claim, expected, following, batch)
        self.committed[claim.topic, claim.partition] = following
        self.rows += batch.rows

    def put(self, claim: Claim, expected: int, following: int, batch: LogBatch) -> None:
        """Hand a batch over; waits while the warehouse is behind.

        Raises:
            Whatever an earlier batch failed with.
        """
        while True:
            self.check()
            try:
                self._queue.put((claim, expected, following, batch), timeout=0.1)
                return
            except queue.Full:
                continue

    def check(self) -> None:
        """Raise what a batch failed with, if one did."""
        if self.failure:
            raise self.failure

    def drain(self, timeout_seconds: float) -> None:
        """Wait until everything that was handed over has been written, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and self.failure is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                self._queue.all_tasks_done.wait(remaining)

    def finish(self) -> None:
        """End the thread; what it had not begun to write stays in the topic."""
        if self.failure is None:
            self.drain(5)
        self.failure = self.failure or _SessionOver("finished")
        # A warehouse that hangs must not hang the lander: closing its connection ends the thread.
        with suppress(queue.Full):
            self._queue.put(None, timeout=5)
        self.join(10)


class Lander:
    """One member of the consumer group.

    Args:
        catalog: its event streams and change topics are landed.
        environment: WAREHOUSE_URL and KAFKA_BOOTSTRAP_SERVERS.
        member: static member name; each running lander needs its own.
        clock: the current time, aware.
    """

    def __init__(
        self,
        catalog: Catalog,
        environment: Mapping[str, str],
        member: str = "0",
        group: str = GROUP,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._catalog = catalog
        self._warehouse_url = environment["WAREHOUSE_URL"]
        self._bootstrap_servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
        self._member = member
        self._group = group
        self._clock = clock
        self._decoders = {topic: MessageDecoder(contract, catalog.start) for topic, contract in catalog.topics.items()}
        self.rows_landed = 0

    def run(self, stop: threading.Event) -> None:
        """Land until told to stop; whatever goes wrong outside is waited for and tried again.

        Raises:
            MemberFenced: another lander uses the same member name.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        backoff = FIRST_BACKOFF_SECONDS
        fenced_at: deque[float] = deque(maxlen=MAX_FENCES)
        while not stop.is_set():
            before = self.rows_landed
            try:
                session = _Session(self, stop)
                try:
                    session.run()
                finally:
                    session.close()
            except (_SessionOver, Fenced) as reason:
                LOGGER.info("joining again", extra=fields(reason=str(reason)))
            except (SourceUnavailable, psycopg.OperationalError, psycopg.InterfaceError, KafkaException) as error:
                LOGGER.warning("cannot land, trying again", extra=fields(error=str(error).strip(), seconds=backoff))
                if isinstance(error, KafkaException) and error.args[0].code() in _FENCED:
                    # Once is a member that was silent too long and is back; again and again is two of the same name.
                    fenced_at.append(time.monotonic())
                    if len(fenced_at) == MAX_FENCES and fenced_at[-1] - fenced_at[0] < FENCES_WITHIN_SECONDS:
                        raise MemberFenced(
                            f"another lander runs as member {self._member!r} of group {self._group!r}: "
                            "give each its own --member"
                        ) from error
            if self.rows_landed > before:
                backoff = FIRST_BACKOFF_SECONDS
            stop.wait(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)


_FENCED = {
    KafkaError._FATAL,  # pyright: ignore[reportPrivateUsage]
    KafkaError._FENCED,  # pyright: ignore[reportPrivateUsage]
    KafkaError.FENCED_INSTANCE_ID,
}


class _Session:
    """From joining the group until something has to be looked at afresh."""

    def __init__(self, lander: Lander, stop: threading.Event) -> None:
        self._lander = lander
        self._stop = stop
        self._topic_ids = TopicIds(lander._bootstrap_servers)
        owner = f"lander {lander._member}"
        self._log = PostgresLandingLog(lander._warehouse_url, owner)
        self._writer_log = PostgresLandingLog(lander._warehouse_url, f"{owner} writer")
        self._writer = _Writer(self._writer_log, self._topic_ids)
        self._writer.start()
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._stopped: set[tuple[str, int]] = set()
        self._consumer: Consumer = landing_consumer(
            lander._bootstrap_servers,
            lander._group,
            lander._member,
            lambda error: LOGGER.info("broker connection", extra=fields(error=str(error))),
        )
        self._looked_around = time.monotonic()
        self._reported = time.monotonic()
        self._reported_rows = 0

    def run(self) -> None:
        topics = list(self._lander._catalog.topics)
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        while not self._stop.is_set():
            messages = self._consumer.consume(FETCH_RECORDS, timeout=0.1)
            if messages:
                self._take(messages)
            self._flush(LINGER_SECONDS if len(messages) < FETCH_RECORDS else BACKLOG_LINGER_SECONDS)
            self._writer.check()
            self._check_fences()
            if time.monotonic() - self._looked_around > LOOK_AROUND_SECONDS:
                self._look_around()
        self._flush(0)

    def close(self) -> None:
        self._writer.finish()
        self._lander.rows_landed += self._writer.rows
        self._partitions.clear()  # leaving the group must not flush what the writer no longer takes
        self._consumer.close()
        self._log.close()
        self._writer_log.close()

    def _take(self, messages: list[Message]) -> None:
        """Decode messages into the open batches of their partitions, those of one partition together."""
        places = list(zip(map(Message.topic, messages), map(Message.partition, messages), strict=True))
        for (topic, number), run in groupby(range(len(messages)), places.__getitem__):
            known = self._partitions.get((topic, number)) if topic is not None and number is not None else None
            records = [messages[n] for n in run]
            errors = [message for message in records if message.error() is not None]
            if errors:
                records = [message for message in records if message.error() is None]
            if known is not None and records:
                self._add(known, records)
            for message in errors:
                self._handle(message, known)

    def _add(self, partition: _Partition, records: list[Message]) -> None:
        now = microseconds(self._lander._clock())
        offsets: list[int] = list(map(Message.offset, records))  # pyright: ignore[reportAssignmentType]
        if offsets[0] < partition.following:
            # Fetched before the partition was sought.
            records = [record for record, offset in zip(records, offsets, strict=True) if offset >= partition.following]
            offsets = [offset for offset in offsets if offset >= partition.following]
            if not records:
                return
        sent = [
            None if kind == TIMESTAMP_NOT_AVAILABLE else (milliseconds - EPOCH_MILLISECONDS) * 1000
            for kind, milliseconds in map(Message.timestamp, records)
        ]
        values = list(map(Message.value, records))
        batch = partition.batch
        if not batch.rows:
            partition.opened = time.monotonic()
            batch.landed_at = now
        messages = Messages(
            values,
            sent,
            list(map(Message.key, records)),
            [msgspec.json.encode(header) if header else None for header in map(Message.headers, records)],
        )
        batch.add(offsets, messages, partition.decoder.envelopes(values, sent, now))
        partition.following = offsets[-1] + 1
        if batch.size_bytes >= BATCH_BYTES or batch.rows >= BATCH_ROWS:
            self._hand_over(partition)

    def _handle(self, message: Message, known: _Partition | None) -> None:
        error = message.error()
        assert error is not None
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
            end = message.offset()
            if known is not None and end is not None and end > known.following:
                # Markers and aborted records at the end: move past them, or their ageing out would look like a gap.
                if not known.batch.rows:
                    known.opened = time.monotonic()
                known.following = end
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # pyright: ignore[reportPrivateUsage]
            raise _SessionOver(f"offset of {message.topic()}[{message.partition()}] is out of range")
        elif error.fatal() or code in _FENCED:
            raise KafkaException(error)
        else:
            LOGGER.info("topic cannot be read now", extra=fields(topic=message.topic(), error=str(error)))

    def _hand_over(self, partition: _Partition) -> None:
        self._writer.put(partition.claim, partition.expected, partition.following, partition.batch)
        partition.expected = partition.following
        partition.batch = self._new_batch(partition.claim)

    def _flush(self, age_seconds: float) -> None:
        due = time.monotonic() - age_seconds
        for partition in self._partitions.values():
            if partition.following > partition.expected and partition.opened <= due:
                self._hand_over(partition)

    def _new_batch(self, claim: Claim) -> LogBatch:
        return LogBatch(claim.origin_id, claim.partition, microseconds(self._lander._clock()))

    def _check_fences(self) -> None:
        while self._writer.fenced:
            claim = self._writer.fenced.pop()
            held = self._partitions.get((claim.topic, claim.partition))
            if held is not None and held.claim.epoch == claim.epoch:
                raise Fenced(f"{claim.topic}[{claim.partition}] was taken over")

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._partitions.clear()
        self._stopped.clear()
        ids = self._topic_ids(partition.topic for partition in partitions)
        positions: list[TopicPartition] = []
        for partition in partitions:
            if partition.topic not in ids:
                raise _SessionOver(f"topic {partition.topic} was deleted")
            bounds = offset_bounds(consumer, partition.topic, partition.partition)
            claim = self._claim(partition, ids[partition.topic], bounds)
            key = (partition.topic, partition.partition)
            if claim is None:
                self._stopped.add(key)
                continue
            self._partitions[key] = _Partition(
                claim, self._lander._decoders[claim.topic], self._new_batch(claim), claim.next, claim.next
            )
            positions.append(TopicPartition(claim.topic, claim.partition, claim.next))
        consumer.assign(positions)
        LOGGER.info(
            "partitions assigned",
            extra=fields(
                reading={f"{topic}[{number}]": held.claim.next for (topic, number), held in self._partitions.items()},
                stopped=[f"{topic}[{number}]" for topic, number in self._stopped],
            ),
        )

    def _claim(self, partition: TopicPartition, topic_id: str, bounds: OffsetBounds) -> Claim | None:
        """Take a partition over; None if it must not be read."""
        contract = self._lander._catalog.topics[partition.topic].name
        claim = self._log.claim(contract, partition.topic, topic_id, partition.partition, bounds.start)
        if claim.stopped_reason:
            return None
        if claim.next < bounds.start:
            LOGGER.error(
                "offsets aged out before they were landed",
                extra=fields(topic=claim.topic, partition=claim.partition, start=claim.next, end=bounds.start),
            )
            return self._log.record_gap(claim, bounds.start)
        if claim.next > bounds.end:
            self._log.stop_partition(claim, bounds.end)
            return None
        return claim

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Finish what is open: it spares the next owner reading it again. Not needed for exactly-once."""
        self._flush(0)
        self._writer.drain(3)
        self._lost(consumer, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._partitions.pop((partition.topic, partition.partition), None)

    def _look_around(self) -> None:
        """Notice what does not show in the records: recreated topics, resumed partitions; tell how far we are."""
        self._looked_around = time.monotonic()
        ids = self._topic_ids(topic for topic, _ in self._partitions)
        for (topic, _), partition in self._partitions.items():
            known = partition.claim.topic_id
            if topic in ids and ids[topic] != known:
                self._log.stop_topic(partition.claim.contract, topic, ids[topic], known)
                raise _SessionOver(f"topic {topic} was deleted and made again")
        if self._stopped and "active" in self._log.states(self._stopped).values():
            raise _SessionOver("a stopped partition was resumed")
        if committed := dict(self._writer.committed):
            self._writer.committed.clear()
            # For other tools to look at; never read back.
            offsets = [TopicPartition(topic, number, following) for (topic, number), following in committed.items()]
            self._consumer.commit(offsets=offsets, asynchronous=True)
        seconds = time.monotonic() - self._reported
        if seconds > 60:
            rows = self._writer.rows - self._reported_rows
            LOGGER.info("landing", extra=fields(rows=rows, rows_per_second=round(rows / seconds, 1)))
            self._reported, self._reported_rows = time.monotonic(), self._writer.rows
