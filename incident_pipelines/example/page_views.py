"""Sends page views: emitted and forgotten, once the broker has acknowledged them."""

from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException, Message, Producer

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.events import Event
from incident_pipelines.example.topics import RecordTimestamps

FLUSH_TIMEOUT_SECONDS = 60.0


class PageViewSender:
    """Sends page views by an idempotent producer.

    Args:
        kafka: bootstrap servers.
        acknowledged: called with the events that the broker acknowledged.
        topic_prefix: put before the topic's name.
        timestamps: decides the records' timestamps.
    """

    def __init__(
        self,
        kafka: str,
        acknowledged: Callable[[Sequence[Event]], None],
        timestamps: RecordTimestamps,
        topic_prefix: str = "",
    ) -> None:
        self._kafka = kafka
        self._acknowledged = acknowledged
        self._topic_prefix = topic_prefix
        self._timestamps = timestamps
        self._producer: Producer | None = None
        self._failed: list[str] = []

    def send(self, events: Sequence[Event]) -> None:
        """Send events and wait until the broker has acknowledged all of them.

        Raises:
            SourceUnavailable: some were not acknowledged; whether they arrived is not known.
        """
        if not events:
            return
        producer = self._ready_producer()
        self._failed.clear()
        name = self._topic_prefix + events[0].topic
        stamps = self._timestamps.of(name, [event.time_us for event in events])
        for event, stamp in zip(events, stamps, strict=True):
            while True:
                try:
                    producer.produce(
                        name, value=event.value, key=event.key, timestamp=stamp, on_delivery=self._delivered
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(FLUSH_TIMEOUT_SECONDS)
        if left or self._failed:
            reason = self._failed[0] if self._failed else f"no answer within {FLUSH_TIMEOUT_SECONDS:.0f} s"
            self.close()
            raise SourceUnavailable(f"Kafka at {self._kafka} did not acknowledge page views: {reason}")
        self._acknowledged(events)

    def close(self) -> None:
        """Drop what was not acknowledged."""
        if self._producer is not None:
            if len(self._producer):
                self._producer.purge()
            self._producer.close()
            self._producer = None

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            try:
                self._producer = Producer(
                    {
                        "bootstrap.servers": self._kafka,
                        "enable.idempotence": True,
                        "delivery.report.only.error": True,
                        "linger.ms": 5,
                        "compression.type": "lz4",
                        "partitioner": "murmur2_random",
                        "queue.buffering.max.messages": 200_000,
                        "log_level": 0,
                    }
                )
            except KafkaException as error:
                raise SourceUnavailable(f"Kafka at {self._kafka}: {error}") from error
        return self._producer

    def _delivered(self, error: object, _message: Message) -> None:
        if error is not None:
            self._failed.append(str(error))
