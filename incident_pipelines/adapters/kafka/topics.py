"""Topics at the broker: settings, what they hold, when the next unread record was written, which groups read them."""

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ConfigSource,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from incident_pipelines.adapters.kafka.consumer import OffsetBounds
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.retention import TopicSettings

ANSWER_SECONDS = 10.0
UNREAD_SECONDS = 3.0
"""Partitions whose next record has not come by then are left out."""

RETENTION = "retention.ms"
Place = tuple[str, int]
"""(topic, partition)."""


@dataclass(frozen=True)
class DescribedTopic:
    """A topic as it is now; the same name with another id is another topic."""

    topic_id: str
    partitions: tuple[int, ...]


class Topics:
    """Looks at topics without a group, and changes nothing but a retention; for one thread.

    Args:
        bootstrap_servers: HOST:PORT, comma separated.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        common = {"bootstrap.servers": bootstrap_servers, "client.id": "incident-pipelines-topics", "log_level": 0}
        try:
            self._admin = AdminClient(common)
            self._consumer = Consumer(
                {
                    **common,
                    "group.id": "incident-pipelines-looks",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 50,
                    "fetch.message.max.bytes": 65_536,
                }
            )
        except KafkaException as error:
            raise SourceUnavailable(f"Kafka at {bootstrap_servers!r} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def described(self, names: Collection[str]) -> dict[str, DescribedTopic]:
        """Return the topics that exist.

        Raises:
            SourceUnavailable: no answer in time.
        """
        if not names:
            return {}
        found: dict[str, DescribedTopic] = {}
        asked = self._admin.describe_topics(TopicCollection(sorted(names)), request_timeout=ANSWER_SECONDS)
        for name, future in asked.items():
            described = self._answer(future, f"describe topic {name}", unless=KafkaError.UNKNOWN_TOPIC_OR_PART)
            if described is not None:
                partitions = tuple(sorted(one.id for one in described.partitions))
                found[name] = DescribedTopic(str(described.topic_id), partitions)
        return found

    def settings(self, names: Collection[str]) -> dict[str, TopicSettings]:
        """Return the settings of the topics that exist.

        Raises:
            SourceUnavailable: no answer in time.
        """
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(names)]
        if not resources:
            return {}
        found: dict[str, TopicSettings] = {}
        for resource, future in self._admin.describe_configs(resources, request_timeout=ANSWER_SECONDS).items():
            name = str(resource.name)
            entries = self._answer(
                future, f"tell the settings of topic {name}", unless=KafkaError.UNKNOWN_TOPIC_OR_PART
            )
            if entries is not None:
                # Older clients and brokers give the source as its number.
                overridden = ConfigSource(entries[RETENTION].source) == ConfigSource.DYNAMIC_TOPIC_CONFIG
                found[name] = TopicSettings(
                    topic=name,
                    retention_ms=int(entries[RETENTION].value),
                    retention_bytes=int(entries["retention.bytes"].value),
                    overridden=overridden,
                    cleanup_policy=str(entries["cleanup.policy"].value),
                )
        return found

    def set_retention(self, topic: str, milliseconds: int | None) -> TopicSettings:
        """Give a topic a retention of its own, or none any more; nothing else of it changes.

        Args:
            milliseconds: -1: without limit; None: the broker's default.

        Returns:
            Its settings once the broker tells the new one.

        Raises:
            SourceUnavailable: the broker does not answer, has no such topic, or refuses.
        """
        operation = AlterConfigOpType.DELETE if milliseconds is None else AlterConfigOpType.SET
        value = None if milliseconds is None else str(milliseconds)
        entry = ConfigEntry(RETENTION, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        asked = self._admin.incremental_alter_configs([resource], request_timeout=ANSWER_SECONDS)
        self._answer(asked[resource], f"change the retention of topic {topic}")
        # What the controller has accepted reaches the broker a moment later.
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            now = self.settings([topic]).get(topic)
            if now is not None and (
                now.retention_ms == milliseconds if milliseconds is not None else not now.overridden
            ):
                return now
            time.sleep(0.05)
        raise SourceUnavailable(
            f"Kafka at {self._servers} took a new retention of topic {topic}, but does not tell it; see "
            "`incident-pipelines topics list`"
        )

    def bounds(self, places: Iterable[Place]) -> dict[Place, OffsetBounds]:
        """Return which offsets partitions hold; the end is that of the last transaction that has ended.

        Raises:
            SourceUnavailable: no answer in time.
        """
        ends: list[dict[Place, int]] = []
        asked = sorted(set(places))
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
            wanted: dict[TopicPartition, Any] = {TopicPartition(*place): spec for place in asked}
            futures = self._admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=ANSWER_SECONDS,
            )
            found: dict[Place, int] = {}
            for partition, future in futures.items():
                what = f"tell the offsets of {partition.topic}[{partition.partition}]"
                answer = self._answer(future, what, unless=KafkaError.UNKNOWN_TOPIC_OR_PART)
                if answer is not None:
                    found[partition.topic, partition.partition] = answer.offset
            ends.append(found)
        starts, latest = ends
        return {place: OffsetBounds(starts[place], latest[place]) for place in asked if {*starts, *latest} >= {place}}

    def written_at(self, offsets: Mapping[Place, int]) -> dict[Place, datetime | None]:
        """Return when the first record from an offset on was written, by the record's own time.

        Args:
            offsets: that the broker holds; others are left out.

        Returns:
            None where there is no record, only the marks of transactions, or it carries no time. What has not come in
            time is left out.

        Raises:
            SourceUnavailable: the client cannot read at all.
        """
        waiting = set(offsets)
        found: dict[Place, datetime | None] = {}
        if not waiting:
            return found
        try:
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in sorted(offsets.items())])
            deadline = time.monotonic() + UNREAD_SECONDS
            while waiting and time.monotonic() < deadline:
                for message in self._consumer.consume(100, 0.1):
                    place = (message.topic() or "", -1 if (number := message.partition()) is None else number)
                    if place not in waiting:
                        continue
                    error = message.error()
                    if error is None:
                        kind, milliseconds = message.timestamp()
                        unknown = kind == TIMESTAMP_NOT_AVAILABLE
                        found[place] = None if unknown else _instant(milliseconds)
                    elif error.code() == KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage]
                        found[place] = None
                    elif error.code() not in _GONE:
                        continue
                    waiting.discard(place)
                    self._consumer.incremental_unassign([TopicPartition(*place)])
        except KafkaException as error:
            raise SourceUnavailable(f"Kafka at {self._servers} cannot be read: {error}") from error
        finally:
            with suppress(KafkaException):
                self._consumer.unassign()
        return found

    def groups(self) -> list[str]:
        """Return the names of all consumer groups, those too that nobody is a member of now.

        Raises:
            SourceUnavailable: no answer in time.
        """
        listed = self._answer(self._admin.list_consumer_groups(request_timeout=ANSWER_SECONDS), "list its groups")
        if listed.errors:  # a broker that did not answer for the groups it coordinates
            raise SourceUnavailable(f"Kafka at {self._servers} does not list its groups: {listed.errors[0]}")
        return sorted(str(one.group_id) for one in listed.valid)

    def group_offsets(self, topics: Collection[str], groups: Iterable[str]) -> dict[str, dict[Place, int]]:
        """Return what consumer groups have committed of topics: group → next offset by partition.

        Raises:
            SourceUnavailable: no answer in time.
        """
        found: dict[str, dict[Place, int]] = {}
        for group in groups:
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_SECONDS
            )
            committed = self._answer(asked[group], f"tell the offsets of group {group}", unless=_NO_GROUP)
            offsets = {
                (one.topic, one.partition): one.offset
                for one in (committed.topic_partitions if committed else ())
                if one.topic in topics and one.offset >= 0
            }
            if offsets:
                found[group] = offsets
        return found

    def _answer(self, future: Future[Any], what: str, unless: int | None = None) -> Any:
        """Wait for an answer; None if it is the error that is expected."""
        try:
            return future.result(timeout=ANSWER_SECONDS + 1)
        except KafkaException as error:
            if unless is not None and error.args[0].code() == unless:
                return None
            raise SourceUnavailable(f"Kafka at {self._servers} does not {what}: {error.args[0]}") from error
        except TimeoutError as error:
            raise SourceUnavailable(f"Kafka at {self._servers} does not {what}: no answer") from error


_GONE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # pyright: ignore[reportPrivateUsage]
_NO_GROUP: int = KafkaError.GROUP_ID_NOT_FOUND


def _instant(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a producer may write any number
        return None
