"""Reading topics: settings, offsets ranges, topic ids."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from incident_pipelines.core.errors import SourceUnavailable

SESSION_MILLISECONDS = 6_000
"""A member that is silent for this long loses its partitions (Kafka's own lower bound)."""


def landing_consumer(
    bootstrap_servers: str, group: str, member: str, on_error: Callable[[KafkaError], None] = lambda _: None
) -> Consumer:
    """Return a consumer whose group only assigns partitions: where to read is decided by the log.

    Args:
        bootstrap_servers: HOST:PORT, comma separated.
        group: consumer group.
        member: static member name, one for each lander; the same name elsewhere fences this one.
        on_error: told of errors of the connection, which librdkafka mends by itself.
    """
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "group.instance.id": f"{group}-{member}",
            "client.id": f"{group}-{member}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # A position out of range is an incident, never a reason to jump.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": SESSION_MILLISECONDS,
            "heartbeat.interval.ms": 1_500,
            "max.poll.interval.ms": 300_000,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 200,
            # A full queue makes librdkafka wait this long before it asks again; its default of 1 s starves a backlog.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 32_768,
            "queued.min.messages": 20_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            "reconnect.backoff.max.ms": 2_000,
            "error_cb": on_error,
        }
    )


@dataclass(frozen=True)
class OffsetBounds:
    """What the broker has of a partition: offsets from `start` up to, not with, `end` (the last stable offset)."""

    start: int
    end: int


def offset_bounds(consumer: Consumer, topic: str, partition: int, timeout_seconds: float = 10) -> OffsetBounds:
    """Ask the broker which offsets of a partition it has.

    Raises:
        SourceUnavailable: no answer in time.
    """
    try:
        start, end = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=timeout_seconds, cached=False
        )
    except KafkaException as error:
        raise SourceUnavailable(f"Kafka does not tell the offsets of {topic}[{partition}]: {error}") from error
    return OffsetBounds(start, end)


class TopicIds:
    """Asks the broker for topic ids: the same name with another id is another topic."""

    def __init__(self, bootstrap_servers: str, timeout_seconds: float = 10) -> None:
        self._admin = AdminClient(
            {"bootstrap.servers": bootstrap_servers, "client.id": "incident-pipelines-topic-ids", "log_level": 0}
        )
        self._timeout_seconds = timeout_seconds

    def __call__(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each topic that exists.

        Raises:
            SourceUnavailable: no answer in time.
        """
        names = sorted(set(topics))
        if not names:
            return {}
        found: dict[str, str] = {}
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=self._timeout_seconds)
        for name, future in futures.items():
            try:
                found[name] = str(future.result(timeout=self._timeout_seconds + 1).topic_id)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise SourceUnavailable(f"Kafka does not describe topic {name}: {error}") from error
            except TimeoutError as error:
                raise SourceUnavailable(f"Kafka does not describe topic {name}: no answer") from error
        return found
