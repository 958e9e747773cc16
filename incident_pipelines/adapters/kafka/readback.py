"""Reads single records back from where they were landed from."""

import time
from collections.abc import Iterable
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from incident_pipelines.adapters.kafka.consumer import TopicIds, offset_bounds
from incident_pipelines.core.case import LogPlace, LogRow, Record
from incident_pipelines.core.errors import SourceUnavailable

NEAR = 500
"""Records up to this far apart are read in one go; further ones are sought."""


def read_back(bootstrap_servers: str, rows: Iterable[LogRow], deadline_seconds: float = 10) -> dict[LogPlace, Record]:
    """Return what the topics hold where rows of the log came from.

    Args:
        rows: of the log; those that came from no topic are left out.
        deadline_seconds: for all of them together; what was not read by then is ``no_answer``.

    Raises:
        SourceUnavailable: the broker does not answer.
    """
    wanted = sorted((row for row in rows if row.topic), key=lambda row: (row.topic or "", row.place[2], row.place[3]))
    if not wanted:
        return {}
    deadline = time.monotonic() + deadline_seconds
    try:
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "incident-pipelines-looks",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "queued.min.messages": 1,
                "fetch.message.max.bytes": 65_536,
                "log_level": 0,
            }
        )
    except KafkaException as error:
        raise SourceUnavailable(f"Kafka cannot be reached: {error}") from error
    with closing(consumer):
        try:
            consumer.list_topics(timeout=min(5, deadline_seconds))  # a consumer is quiet about a broker that is down
        except KafkaException as error:
            raise SourceUnavailable(f"Kafka cannot be reached: {error}") from error
        ids = TopicIds(bootstrap_servers, max(deadline - time.monotonic(), 1))({row.topic or "" for row in wanted})
        records: dict[LogPlace, Record] = {}
        waiting: dict[tuple[str, int], list[LogRow]] = {}
        for row in wanted:
            record = _outside(consumer, row, ids, deadline)
            if record is None:
                waiting.setdefault((row.topic or "", row.place[2]), []).append(row)
            else:
                records[row.place] = record
        # All partitions at once: each new assignment costs a round of fetches.
        consumer.assign([TopicPartition(topic, number, rows[0].place[3]) for (topic, number), rows in waiting.items()])
        while waiting and (remaining := deadline - time.monotonic()) > 0:
            message = consumer.poll(min(remaining, 1))
            if message is not None:
                _take(consumer, message, waiting, records)
        return records | {row.place: Record("no_answer") for rows in waiting.values() for row in rows}


def _outside(consumer: Consumer, row: LogRow, ids: dict[str, str], deadline: float) -> Record | None:
    """Return what can be said without reading; None if the offset lies within what the partition holds."""
    topic, partition, offset = row.topic or "", row.place[2], row.place[3]
    if topic not in ids:
        return Record("deleted")
    if ids[topic] != row.topic_id:
        return Record("recreated")
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        return Record("no_answer")
    try:
        bounds = offset_bounds(consumer, topic, partition, remaining)
    except SourceUnavailable:
        return Record("no_answer")
    if offset < bounds.start:
        return Record("aged_out", log_start=bounds.start)
    return Record("cut", log_start=bounds.start) if offset >= bounds.end else None


def _take(
    consumer: Consumer, message: Message, waiting: dict[tuple[str, int], list[LogRow]], records: dict[LogPlace, Record]
) -> None:
    """Match a message with what its partition waits for; rows wait in the order of their offsets."""
    partition = (message.topic() or "", -1 if (number := message.partition()) is None else number)
    rows = waiting.get(partition)
    if not rows:
        return
    error = message.error()
    found = message.offset()
    if error is not None:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # pyright: ignore[reportPrivateUsage]
            records[rows.pop(0).place] = Record("aged_out")  # between the question and the read
            found = None
        else:
            return
    elif found is None:
        return
    else:
        while rows and rows[0].place[3] < found:
            records[rows.pop(0).place] = Record("compacted")
        while rows and rows[0].place[3] == found:  # a topic's offset may be in the log under several origins
            records[rows.pop(0).place] = Record("held", message.value())
    if not rows:
        del waiting[partition]
        consumer.incremental_unassign([TopicPartition(*partition)])
    elif found is None or rows[0].place[3] > found + NEAR:
        consumer.seek(TopicPartition(*partition, rows[0].place[3]))
