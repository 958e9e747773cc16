"""Where each partition stands, and letting a stopped one go on."""

import getpass
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Consumer, KafkaException
from sqlalchemy import text

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.kafka.consumer import OffsetBounds, TopicIds, offset_bounds
from incident_pipelines.adapters.stores.landing_log import PostgresLandingLog
from incident_pipelines.core.errors import IncidentPipelinesError

_STATUS_SQL = """
SELECT o.topic, o.partition, o.contract, o.origin_id, o.next, o.epoch, o.owner, o.state, o.stopped_reason, o.updated_at,
       (SELECT count(*) FROM landing.gaps g WHERE g.topic = o.topic AND g.partition = o.partition) AS gaps
FROM landing.offsets o ORDER BY o.topic, o.partition
"""


class LandingCommandRefused(IncidentPipelinesError):
    """What was asked for does not fit the state of landing; nothing was changed."""


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of a landed topic.

    Args:
        next: offset of the first record not in the log.
        log_start, log_end: what the broker has; None if it did not say.
        lag: records not landed yet at most; markers count as well.
        gaps: ranges that had aged out.
    """

    topic: str
    partition: int
    contract: str
    origin_id: int
    next: int
    epoch: int
    owner: str | None
    state: str
    stopped_reason: str | None
    updated_at: datetime
    gaps: int
    log_start: int | None
    log_end: int | None

    @property
    def lag(self) -> int | None:
        """Offsets between the log's end and what is landed; an upper bound of the records to come."""
        return None if self.log_end is None else max(self.log_end - self.next, 0)


def landing_status(environment: Mapping[str, str]) -> list[PartitionStatus]:
    """Return the state of every partition that was ever landed.

    Raises:
        SourceUnavailable: the warehouse does not answer; a silent broker only leaves its numbers out.
    """
    engine = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines landing status")
    with available("warehouse"), engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(text(_STATUS_SQL)).mappings()]
    engine.dispose()
    with closing(_bare_consumer(environment)) as consumer:
        statuses: list[PartitionStatus] = []
        answering = True
        for row in rows:
            bounds = None
            if answering:
                try:
                    bounds = offset_bounds(consumer, row["topic"], row["partition"], timeout_seconds=3)
                except IncidentPipelinesError as error:
                    answering = "UNKNOWN" in str(error).upper()  # a deleted topic says nothing about the broker
            statuses.append(PartitionStatus(**row, log_start=bounds and bounds.start, log_end=bounds and bounds.end))
    return statuses


def resume_landing(environment: Mapping[str, str], target: str, where: str) -> list[tuple[int, int, int]]:
    """Let stopped partitions go on, under a new origin.

    Args:
        target: ``TOPIC`` for all its stopped partitions, or ``TOPIC:PARTITION``.
        where: ``start`` or ``end`` of the topic as it is now, or an offset that it has.

    Returns:
        (partition, new origin, offset it goes on from) of each.

    Raises:
        LandingCommandRefused: nothing is stopped there, or the offset does not exist; the message says what does.
        SourceUnavailable: warehouse or broker do not answer.
    """
    topic, _, number = target.partition(":")
    if number and not number.isdigit():
        raise LandingCommandRefused(f"{target!r} is neither TOPIC nor TOPIC:PARTITION")
    if where not in ("start", "end") and not where.isdigit():
        raise LandingCommandRefused(f"--from {where!r} is neither start nor end nor an offset")
    stopped = [
        status.partition
        for status in landing_status(environment)
        if status.topic == topic and status.state == "stopped" and (not number or status.partition == int(number))
    ]
    if not stopped:
        raise LandingCommandRefused(f"no partition of {target} is stopped; `landing status` shows what is")
    if where.isdigit() and len(stopped) > 1:
        raise LandingCommandRefused(f"an offset needs one partition: {topic}:PARTITION with one of {stopped}")
    topic_id = TopicIds(environment["KAFKA_BOOTSTRAP_SERVERS"])([topic]).get(topic)
    if topic_id is None:
        raise LandingCommandRefused(f"topic {topic} does not exist at the broker")
    offsets: list[tuple[int, int]] = []
    with closing(_bare_consumer(environment)) as consumer:
        for partition in stopped:
            bounds = offset_bounds(consumer, topic, partition)
            offsets.append((partition, _offset(topic, partition, where, bounds)))
    with closing(PostgresLandingLog(environment["WAREHOUSE_URL"], "incident-pipelines landing resume")) as log:
        try:
            return log.resume(topic, topic_id, offsets, f"resumed from {where} by {getpass.getuser()}")
        except LookupError as error:
            raise LandingCommandRefused(str(error)) from error


def _offset(topic: str, partition: int, where: str, bounds: OffsetBounds) -> int:
    match where:
        case "start":
            return bounds.start
        case "end":
            return bounds.end
        case _:
            offset = int(where)
            if not bounds.start <= offset <= bounds.end:
                raise LandingCommandRefused(
                    f"offset {offset} does not exist: {topic}:{partition} holds {bounds.start} to {bounds.end}"
                )
            return offset


def _bare_consumer(environment: Mapping[str, str]) -> Consumer:
    try:
        return Consumer(
            {
                "bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
                "group.id": "incident-pipelines-looks",
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
    except KafkaException as error:
        raise LandingCommandRefused(f"KAFKA_BOOTSTRAP_SERVERS cannot be used: {error}") from error
