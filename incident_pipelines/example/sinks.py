"""Where simulated events go: through the outboxes into Kafka, or straight into the landing log."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from incident_pipelines.example.events import PAGE_VIEWS, TOPICS, Event
from incident_pipelines.example.history import Slice
from incident_pipelines.example.history_rows import LANE
from incident_pipelines.example.outbox import OutboxRelay
from incident_pipelines.example.page_views import PageViewSender
from incident_pipelines.example.records import AuditLog, GroundTruth
from incident_pipelines.example.settings import Settings
from incident_pipelines.example.topics import RecordTimestamps
from incident_pipelines.example.visits import World

LOG_RECORDS = 20_000

LogRecord = tuple[int, bytes | None, bytes]
# Contract, records (event time in ms, key, value), and a key under which they are appended once.
AppendToLog = Callable[[str, Iterable[LogRecord], str], int]


class EventSink(Protocol):
    """Takes the events of slices whose rows stand in the databases."""

    # Whether outbox rows count as sent when they are written.
    bypasses_outbox: bool

    def send(self, part: Slice) -> None:
        """Send all events of a slice and return once they are acknowledged; may be called again for the same slice."""
        ...

    def timestamps(self) -> dict[str, int]:
        """Return how many records carry their event time, and how many the time of sending."""
        ...


class KafkaSink:
    """Relays both outboxes and sends page views, at the same time.

    Args:
        settings: databases, broker and folder of audit log and ground truth.
    """

    bypasses_outbox = False

    def __init__(self, settings: Settings) -> None:
        prefix = settings.topic_prefix
        self._audit = AuditLog(settings.folder, durable=False)
        self._truth = GroundTruth(settings.folder, durable=False)
        self._timestamps = RecordTimestamps(settings.kafka)
        self._relays = [
            OutboxRelay(url, LANE, settings.kafka, name, self._acknowledged, prefix, self._timestamps)
            for url, name in (
                (settings.app_url, f"example-app-{LANE}"),
                (settings.billing_url, f"example-billing-{LANE}"),
            )
        ]
        self._page_views = PageViewSender(settings.kafka, self._truth.append, self._timestamps, prefix)
        self._pool = ThreadPoolExecutor(len(self._relays), thread_name_prefix="relay")

    def send(self, part: Slice) -> None:
        relayed = [self._pool.submit(relay.drain) for relay in self._relays]
        self._page_views.send([event for event in part.events if event.topic == PAGE_VIEWS])
        for future in relayed:
            future.result()

    def timestamps(self) -> dict[str, int]:
        return dict(self._timestamps.by_kind)

    def close(self) -> None:
        """Give up connections."""
        self._pool.shutdown()
        for relay in self._relays:
            relay.close()
        self._page_views.close()

    def _acknowledged(self, events: Sequence[Event]) -> None:
        self._truth.append(events)
        self._audit.append(events)


class LogSink:
    """Appends events to the landing log as history, beside Kafka.

    Args:
        settings: folder of audit log and ground truth.
        world: part of the keys under which records are appended.
        append: appends records to the log of a contract; what was appended under the same key is skipped.
    """

    bypasses_outbox = True

    def __init__(self, settings: Settings, world: World, append: AppendToLog) -> None:
        self._audit = AuditLog(settings.folder, durable=False)
        self._truth = GroundTruth(settings.folder, durable=False)
        self._world = world
        self._append = append
        self._records = 0

    def send(self, part: Slice) -> None:
        for topic in TOPICS:
            events = [event for event in part.events if event.topic == topic]
            for number, first in enumerate(range(0, len(events), LOG_RECORDS)):
                batch = events[first : first + LOG_RECORDS]
                key = f"{self._world.seed}:{float(self._world.rate)!r}:{part.start}-{part.end}:{number}"
                self._append(topic, ((event.time_us // 1000, event.key.encode(), event.value) for event in batch), key)
        self._truth.append(part.events)
        self._audit.append(part.events)
        self._records += len(part.events)

    def timestamps(self) -> dict[str, int]:
        return {"event_time": self._records, "time_of_sending": 0}
