"""A topic, read again from an offset that lies early enough up to the end that it had when the reading began.

Records need not stand in the order of their times, so a window is everything from there to the end whose event time
lies in it; offsets are no count of records, and retention drops whole segments: the log's real start says what is left.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from incident_pipelines.adapters.kafka.consumer import OffsetBounds, offset_bounds
from incident_pipelines.adapters.recovery_sources.source import (
    Found,
    Problem,
    Problems,
    Replayable,
    decoded,
    in_window,
    problem_at,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import POSTGRES_EPOCH
from incident_pipelines.core.contracts.model import ChangeTopic, EventContract, RowsContract
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.recovery.counting import WindowCounts
from incident_pipelines.core.recovery.coverage import KAFKA, Coverage, counted, silent, unusable
from incident_pipelines.core.windows import TimeWindow

EARLY = timedelta(hours=1)
"""A record's own time may lie this far before that of its event: clocks differ, and landing allows 5 minutes."""

COUNTED_RECORDS = 5_000_000
"""A topic with more offsets than that in question is not read to be counted: its offsets only bound the number."""

ANSWER_SECONDS = 10.0
SILENT_SECONDS = 30.0
BATCH = 5_000


@dataclass(frozen=True)
class _Topic:
    """A topic as it was when reading began.

    Args:
        retention: None: for good.
    """

    name: str
    bounds: Mapping[int, OffsetBounds]
    retention: timedelta | None
    notes: tuple[str, ...]


@dataclass
class _Pass:
    """One reading: from which offset each partition is read, and when its first record was sent.

    Args:
        begins: of partitions that have dropped records: the time of the first one left; None where none is.
    """

    offsets: dict[int, int]
    begins: dict[int, datetime | None] = field(default_factory=dict[int, datetime | None])


class _NoTopic(Exception):
    """The broker answers and has no such topic."""


class KafkaSource:
    """Reads topics without a group: nothing is committed, nobody's position moves.

    Args:
        environment: with KAFKA_BOOTSTRAP_SERVERS.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._servers = environment.get("KAFKA_BOOTSTRAP_SERVERS")

    def coverage(self, dataset: str, windows: Sequence[TimeWindow]) -> list[Coverage]:
        """Return what the topic holds of each window: counted in one pass, or bounded where it holds too much."""
        name = self._topic_of(dataset)
        if name is None:
            return unusable(KAFKA, dataset, windows, "it does not come from a topic")
        try:
            with closing(self._consumer()) as consumer:
                topic = self._look_at(consumer, name)
                part = _start_at(consumer, topic, min(window.start for window in windows))
                records = sum(topic.bounds[number].end - offset for number, offset in part.offsets.items())
                if records > COUNTED_RECORDS:
                    return [_bounded(dataset, window, topic, records) for window in windows]
                counts, told = WindowCounts(windows), list[Problem]()
                found = _records(consumer, topic, part, told.append)
                for batch in decoded(self._catalog, dataset, found, told.append):
                    counts.add(batch.envelopes, batch.values, batch.sent)
        except _NoTopic:
            return unusable(KAFKA, dataset, windows, f"there is no topic {name}")
        except SourceUnavailable as error:
            return silent(KAFKA, dataset, windows, str(error))
        return [
            counted(
                KAFKA,
                dataset,
                window,
                events,
                until=_until(oldest, topic.retention),
                reasons=[*_dropped(window, topic, part), *topic.notes],
            )
            for window, events, oldest in zip(windows, counts.events(), counts.oldest(), strict=True)
        ]

    def replayable(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Replayable]:
        """Yield the records of committed transactions, each partition in its order."""
        name = self._topic_of(dataset)
        if name is None:
            raise SourceUnavailable(f"{dataset} does not come from a topic")
        with closing(self._consumer()) as consumer:
            try:
                topic = self._look_at(consumer, name)
            except _NoTopic as error:
                raise SourceUnavailable(f"there is no topic {name}") from error
            part = _start_at(consumer, topic, window.start)
            found = _records(consumer, topic, part, problems)
            yield from in_window(decoded(self._catalog, dataset, found, problems), window)

    def _topic_of(self, dataset: str) -> str | None:
        match self._catalog.landed[dataset]:
            case EventContract(topic=topic) | RowsContract(origin=ChangeTopic(topic=topic)):
                return topic
            case RowsContract():
                return None

    def _consumer(self) -> Consumer:
        if not self._servers:
            raise SourceUnavailable("Kafka cannot be reached: KAFKA_BOOTSTRAP_SERVERS is not set")
        try:
            return Consumer(
                {
                    "bootstrap.servers": self._servers,
                    "group.id": "incident-pipelines-recovery",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    # What is gone is said, never jumped over.
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 100,
                    "fetch.queue.backoff.ms": 10,
                    "queued.max.messages.kbytes": 32_768,
                    "log_level": 0,
                }
            )
        except KafkaException as error:
            raise SourceUnavailable(f"Kafka cannot be reached: {error}") from error

    def _look_at(self, consumer: Consumer, name: str) -> _Topic:
        try:
            described = consumer.list_topics(name, timeout=ANSWER_SECONDS).topics[name]
        except KafkaException as error:
            raise SourceUnavailable(f"Kafka cannot be reached: {error}") from error
        if described.error is not None:
            if described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _NoTopic(name)
            raise SourceUnavailable(f"Kafka does not describe topic {name}: {described.error}")
        bounds = {number: offset_bounds(consumer, name, number, ANSWER_SECONDS) for number in described.partitions}
        settings = self._settings(name)
        retention_ms = int(settings["retention.ms"])
        notes: list[str] = []
        if "compact" in settings["cleanup.policy"]:
            notes.append("the topic is compacted: older records of a key are gone, which offsets do not show")
        if int(settings["retention.bytes"]) >= 0:
            notes.append("retention.bytes may drop records before their time")
        retention = None if retention_ms < 0 else timedelta(milliseconds=retention_ms)
        return _Topic(name, bounds, retention, tuple(notes))

    def _settings(self, name: str) -> dict[str, str]:
        admin = AdminClient({"bootstrap.servers": self._servers or "", "log_level": 0})
        resource = ConfigResource(ResourceType.TOPIC, name)
        try:
            found = admin.describe_configs([resource], request_timeout=ANSWER_SECONDS)[resource].result(ANSWER_SECONDS)
        except (KafkaException, TimeoutError) as error:
            raise SourceUnavailable(f"Kafka does not tell the settings of topic {name}: {error}") from error
        return {key: str(entry.value) for key, entry in found.items()}


def _start_at(consumer: Consumer, topic: _Topic, start: datetime) -> _Pass:
    """Choose where each partition is read from: early, and never before what it has.

    An answer without an offset means that no record is that young by its own time. That is no place to read from, and
    no proof either, for times are the producers': such a partition is read from its start.
    """
    since = int((start - EARLY).timestamp() * 1000)
    asked = [TopicPartition(topic.name, number, max(since, 0)) for number in topic.bounds]
    try:
        answers = consumer.offsets_for_times(asked, timeout=ANSWER_SECONDS)
    except KafkaException as error:
        raise SourceUnavailable(f"Kafka does not search topic {topic.name} by time: {error}") from error
    offsets: dict[int, int] = {}
    for answer in answers:
        if answer.error is not None or answer.offset == OFFSET_INVALID:
            raise SourceUnavailable(f"Kafka does not search {topic.name}[{answer.partition}] by time: {answer.error}")
        bounds = topic.bounds[answer.partition]
        offsets[answer.partition] = bounds.start if answer.offset < 0 else max(answer.offset, bounds.start)
    part = _Pass({number: offset for number, offset in offsets.items() if offset < topic.bounds[number].end})
    # A partition whose start has moved may have dropped records of the window, until its first one says otherwise.
    part.begins = {
        number: None for number, bounds in topic.bounds.items() if bounds.start > 0 and offsets[number] == bounds.start
    }
    return part


def _records(consumer: Consumer, topic: _Topic, part: _Pass, problems: Problems) -> Iterator[Found]:
    """Yield the records from the chosen offsets up to the end bound.

    Raises:
        SourceUnavailable: the broker went silent, or dropped what was to be read.
    """
    left = set(part.offsets)
    consumer.assign([TopicPartition(topic.name, number, part.offsets[number]) for number in sorted(left)])
    heard = monotonic()
    while left:
        messages = consumer.consume(BATCH, 0.1)
        if any(message.error() is None for message in messages):
            heard = monotonic()
        elif monotonic() - heard > SILENT_SECONDS:
            raise SourceUnavailable(f"Kafka was silent for {SILENT_SECONDS:.0f} s while {topic.name} was read")
        for message in messages:
            number, offset = message.partition(), message.offset()
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF and number is not None:  # pyright: ignore[reportPrivateUsage]
                    left.discard(number)
                elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # pyright: ignore[reportPrivateUsage]
                    raise SourceUnavailable(f"{topic.name}[{number}] cannot be read: {error}")
                continue
            if number is None or offset is None or number not in left:
                continue
            if offset >= topic.bounds[number].end:  # arrived since
                left.discard(number)
                continue
            if found := _found(message, topic, part, problems):
                yield found
            if offset >= topic.bounds[number].end - 1:
                left.discard(number)


def _found(message: Message, topic: _Topic, part: _Pass, problems: Problems) -> Found | None:
    number, value, key = message.partition() or 0, message.value(), message.key()
    _, sent = message.timestamp()
    if number in part.begins and part.begins[number] is None:
        part.begins[number] = datetime.fromtimestamp(max(sent, 0) / 1000, UTC)
    place = (topic.name, "[", number, "] offset ", message.offset())
    if value is None:
        problems(problem_at(place, "has no value"))
        return None
    encoded = key.encode() if isinstance(key, str) else key
    return sent if sent >= 0 else None, encoded, value.encode() if isinstance(value, str) else value, place


def _dropped(window: TimeWindow, topic: _Topic, part: _Pass) -> list[str]:
    """Say whether the topic has dropped records of a window."""
    partitions = [number for number, begins in part.begins.items() if begins is None or begins > window.start]
    if not partitions:
        return []
    times = [begins for number in partitions if (begins := part.begins[number]) is not None]
    since = f"now begins at {min(times):%Y-%m-%d %H:%M} UTC" if times else "is empty now"
    return [f"{len(partitions)} of {len(topic.bounds)} partitions have dropped records; what is left {since}"]


def _bounded(dataset: str, window: TimeWindow, topic: _Topic, records: int) -> Coverage:
    until = None if topic.retention is None else window.start + topic.retention
    reasons = (f"{records} offsets from there on are too many to count", *topic.notes)
    return Coverage(KAFKA, dataset, window, replays=True, at_most=records, until=until, reason="; ".join(reasons))


def _until(oldest: int | None, retention: timedelta | None) -> datetime | None:
    """When the first of the records may go: its segment goes later, when its youngest record is that old."""
    if oldest is None or retention is None:
        return None
    return POSTGRES_EPOCH + timedelta(microseconds=oldest) + retention
