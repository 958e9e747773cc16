"""The example's Kafka topics: making them, and which timestamp a record may carry."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.events import TOPICS

PARTITIONS = 6
RETENTION_MS = 14 * 24 * 3_600_000
# Retention drops whole segments, so small ones make it act within the hour.
SEGMENT_MS = 3_600_000
TIMEOUT_SECONDS = 20.0
# A retention may be changed while records are being sent.
RETENTION_ASKED_SECONDS = 60.0


def create_topics(kafka: str, names: Sequence[str] = TOPICS) -> list[str]:
    """Create the topics that are missing and return their names.

    Args:
        kafka: bootstrap servers.
        names: topics to make.

    Raises:
        SourceUnavailable: the broker does not answer or refuses.
    """
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    settings = {"retention.ms": str(RETENTION_MS), "segment.ms": str(SEGMENT_MS), "cleanup.policy": "delete"}
    wanted = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=settings) for name in names]
    created: list[str] = []
    for name, future in admin.create_topics(wanted, request_timeout=TIMEOUT_SECONDS).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise SourceUnavailable(f"topic {name} cannot be made on Kafka at {kafka}: {error.args[0]}") from error
    return created


class RecordTimestamps:
    """Gives a record its event time while the topic retains that, and otherwise the time of sending.

    A record that is older than its topic's retention would be deleted within seconds of being acknowledged.

    Args:
        kafka: bootstrap servers.
    """

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._retention_ms: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()
        self.by_kind: Counter[str] = Counter(event_time=0, time_of_sending=0)

    def of(self, topic: str, times_us: Sequence[int]) -> list[int]:
        """Return the record timestamps in milliseconds for event times in microseconds since 1970.

        Raises:
            SourceUnavailable: the broker does not answer, or the topic is missing.
        """
        with self._lock:
            if time.monotonic() - self._asked.get(topic, -RETENTION_ASKED_SECONDS) >= RETENTION_ASKED_SECONDS:
                self._retention_ms[topic] = _retention_ms(self._kafka, topic)
                self._asked[topic] = time.monotonic()
            retention_ms = self._retention_ms[topic]
        now_ms = int(time.time() * 1000)
        # A minute's grace: what is on the edge now is over it when the broker looks.
        oldest_ms = now_ms - retention_ms + 60_000 if retention_ms >= 0 else 0
        stamps = [time_us // 1000 if time_us // 1000 >= oldest_ms else now_ms for time_us in times_us]
        kept = sum(1 for time_us in times_us if time_us // 1000 >= oldest_ms)
        with self._lock:
            self.by_kind["event_time"] += kept
            self.by_kind["time_of_sending"] += len(stamps) - kept
        return stamps


def _retention_ms(kafka: str, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        future = admin.describe_configs([resource], request_timeout=TIMEOUT_SECONDS)[resource]
        return int(future.result(TIMEOUT_SECONDS)["retention.ms"].value)
    except KafkaException as error:
        raise SourceUnavailable(f"Kafka at {kafka} does not tell the retention of {topic}: {error.args[0]}") from error
    except TimeoutError as error:
        raise SourceUnavailable(f"Kafka at {kafka} does not answer within {TIMEOUT_SECONDS:.0f} s") from error
