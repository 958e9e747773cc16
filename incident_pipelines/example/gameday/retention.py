"""Retention set to one hour while the landers are down: the broker really deletes what nobody has landed."""

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta

from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from incident_pipelines.adapters.kafka.consumer import OffsetBounds
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.example.events import PAGE_VIEWS, Event
from incident_pipelines.example.gameday.drill import LANDER, SERVICE, CannotRun, Drill
from incident_pipelines.example.gameday.scenario import Fault, Scenario
from incident_pipelines.example.history import Slice
from incident_pipelines.example.history_rows import LANE
from incident_pipelines.example.outbox import OutboxRelay
from incident_pipelines.example.prepare import hand_over
from incident_pipelines.example.progress import instant_of, minute_of
from incident_pipelines.example.simulate import EVENTS_PER_ATTEMPT, Simulation
from incident_pipelines.example.sinks import KafkaSink
from incident_pipelines.example.topics import PARTITIONS
from incident_pipelines.example.visits import World
from incident_pipelines.stages.landing.state import landing_status

DAYS = 3
SHORT_MS = 3_600_000
AT_ONCE_MS = 1_000
PART_MINUTES = 120
"""A batch of records lies in one segment and is as young as its youngest: what is sent at once spans no more."""

RECORDS_AT_ONCE = 10
FLUSH_SECONDS = 60.0
RETENTION = "retention.ms"
SETTLED_SECONDS = 25.0
"""The broker looks for what it may delete every 10 s; what has not moved for so long is done."""

DRAIN_SECONDS = 120.0
DELETE_SECONDS = 180.0

Bounds = dict[tuple[str, int], OffsetBounds]


class RelayWithoutMarkers(OutboxRelay):
    """Sends without transactions, a few records at a time.

    A transaction's marker carries the time of its commit, and a batch that of its youngest record: either would keep
    what is old from ageing out.
    """

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self._kafka,
                    "enable.idempotence": True,
                    "batch.num.messages": RECORDS_AT_ONCE,
                    "partitioner": "murmur2_random",
                    "log_level": 0,
                }
            )
        return self._producer

    def _send(self, events: Sequence[Event]) -> None:
        producer = self._ready_producer()
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error)

        for event in events:
            name = self._topic_prefix + event.topic
            (stamp,) = self._timestamps.of(name, [event.time_us])
            producer.produce(name, value=event.value, key=event.key, timestamp=stamp, on_delivery=delivered)
        if producer.flush(FLUSH_SECONDS) or failed:
            raise BufferError(f"not all events were taken: {failed[0] if failed else 'the broker is slow'}")


class CountedSink(KafkaSink):
    """A Kafka sink that remembers the ids of what it was asked to send."""

    def __init__(self, drill: Drill) -> None:
        super().__init__(drill.settings)
        self._relays = [
            RelayWithoutMarkers(url, LANE, drill.settings.kafka, name, self._acknowledged, "", self._timestamps)
            for url, name in ((drill.settings.app_url, "gameday-app"), (drill.settings.billing_url, "gameday-billing"))
        ]
        self.ids: dict[str, set[bytes]] = defaultdict(set)

    def send(self, part: Slice) -> None:
        super().send(part)
        for event in part.events:
            self.ids[event.topic].add(bytes.fromhex(event.event_id.replace("-", "")))


def inject_misconfigured(drill: Drill) -> Fault:
    """Hold landers and guard until three days have aged out of every partition, and let go."""
    fill = _Fill(drill)
    fill.write()
    before = fill.bounds()
    drill.report("retention.ms = 1 h on all three topics, by real deletion of segments; the guard is suspended")
    injured_at = drill.now()
    drill.set_topics({RETENTION: str(SHORT_MS)})
    moved = drill.wait_for(
        "the log start has moved in all partitions",
        lambda: all(now.start > before[place].start for place, now in fill.bounds().items()),
        DELETE_SECONDS,
    )
    fill.wait_until_deleted()
    drill.report("the damage is real: guard and landing watch are on again")
    drill.resume("retention", "landing")
    over_at = drill.now()
    return fill.fault(injured_at, moved, over_at, loses=frozenset({PAGE_VIEWS}))


def inject_guarded(drill: Drill) -> Fault:
    """The same with the guard on: the broker's next look comes after it, and nothing may be lost."""
    fill = _Fill(drill)
    fill.write()
    drill.report("guard and landing watch are on; retention.ms = 1 h on all three topics")
    drill.resume("retention", "landing")
    _after_a_look_of_the_broker(drill)
    injured_at = drill.now()
    drill.set_topics({RETENTION: str(SHORT_MS)})
    return fill.fault(injured_at, injured_at, drill.now(), loses=frozenset())


MISCONFIGURED = Scenario(
    name="retention-misconfigured",
    summary="Retention drops to 1 h while the landers are down, and three days of events age out of all three topics.",
    causes=frozenset({"log_retention"}),
    inject=inject_misconfigured,
)
GUARDED = Scenario(
    name="retention-guarded",
    summary="The same with the guard on: it puts the retention back before the broker deletes, and nothing is lost.",
    causes=frozenset({"log_retention", "landing_stopped"}),
    inject=inject_guarded,
)


class _Fill:
    """Three days of events in the topics, none of them landed."""

    def __init__(self, drill: Drill) -> None:
        self._drill = drill
        end = minute_of(drill.now())
        self._range = (end - DAYS * 1440, end)
        rate = drill.events / (DAYS * 86_400 * EVENTS_PER_ATTEMPT)
        # A second run of the same seed is another one: what was written before stands in the databases.
        self._world = World(drill.seed * 1_000_000_000 + end, rate, stream=f"game day {drill.seed} {end}")
        self._ids: dict[str, set[bytes]] = {}

    def write(self) -> None:
        """Empty the topics of what is landed, stop the landers, and write the events in between."""
        drill = self._drill
        drill.suspend("retention", "landing")
        drill.keep_topic_settings(RETENTION)
        kept = {topic: dict(values) for topic, values in drill.topic_settings((RETENTION,)).items()}
        drill.report("the service rests while its topics are filled; waiting for the landers")
        drill.stop(*SERVICE)
        drill.wait_for("everything is landed", self._is_landed, DRAIN_SECONDS)
        drill.stop(LANDER)
        # A segment is as young as its youngest record: what is old gets segments of its own.
        drill.set_topics({RETENTION: str(AT_ONCE_MS)})
        drill.wait_for("the topics are empty", self._is_empty, DELETE_SECONDS)
        for topic, values in kept.items():
            drill.set_topic(topic, values)
        start, end = self._range
        drill.report(f"writing {DAYS} days of events, about {drill.events:,}, with their own times")
        written = 0
        with closing(CountedSink(drill)) as sink:
            for first in range(start, end, PART_MINUTES):
                part = Simulation(drill.settings, self._world, sink).run(first, min(first + PART_MINUTES, end))
                written += part.written
                if part.stopped_at is not None or part.timestamps["time_of_sending"]:
                    raise CannotRun(
                        "the topics keep less than three days: events cannot be written with their own times"
                    )
        self._ids = dict(sink.ids)
        hand_over(drill.settings.app_url, drill.settings.billing_url, self._world, start, end)
        drill.start(*SERVICE)
        drill.report(f"{written:,} events are in the topics, and nobody lands them")

    def bounds(self) -> Bounds:
        """Return which offsets the partitions hold."""
        with closing(Topics(self._drill.settings.kafka)) as topics:
            return topics.bounds((topic, number) for topic in self._drill.topics for number in range(PARTITIONS))

    def wait_until_deleted(self) -> None:
        """Wait until the broker has deleted all that it is going to delete now."""
        last, since = self.bounds(), time.monotonic()

        def settled() -> bool:
            nonlocal last, since
            now = self.bounds()
            if any(now[place].start != last[place].start for place in now):
                last, since = now, time.monotonic()
            return time.monotonic() - since >= SETTLED_SECONDS

        self._drill.wait_for("the broker has deleted what is too old", settled, DELETE_SECONDS)

    def fault(self, injured_at: datetime, breached_at: datetime, over_at: datetime, *, loses: frozenset[str]) -> Fault:
        """Return the fault over the events that were written."""
        return Fault(
            injured_at=injured_at,
            breached_at=breached_at,
            over_at=over_at,
            # Marts are compared by whole days.
            span=TimeWindow(TimeWindow.day_of(instant_of(self._range[0])).start, instant_of(self._range[1]) + DAY),
            affected={topic: frozenset(ids) for topic, ids in self._ids.items()},
            loses=loses,
            aged_out=True,
        )

    def _is_landed(self) -> bool:
        return all(one.lag == 0 for one in landing_status(self._drill.environment) if one.state == "active")

    def _is_empty(self) -> bool:
        return all(one.start == one.end for one in self.bounds().values())


def _after_a_look_of_the_broker(drill: Drill) -> None:
    """Return just after the broker has looked for what it may delete.

    It looks every 10 s here so that a drill takes minutes, and every 5 minutes by default: the guard gets the whole
    of the shorter time, and no luck.
    """
    name = f"gameday-look-{time.time_ns()}"
    admin = AdminClient({"bootstrap.servers": drill.settings.kafka, "log_level": 0})
    settings = {RETENTION: "1", "segment.ms": "1"}
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, config=settings)])[name].result(20)
    drill.restore.callback(lambda: admin.delete_topics([name])[name].result(20))
    producer = Producer({"bootstrap.servers": drill.settings.kafka, "log_level": 0})
    old_ms = int((drill.now() - timedelta(days=1)).timestamp() * 1000)
    producer.produce(name, b"old", timestamp=old_ms)
    producer.flush(20)
    with closing(Topics(drill.settings.kafka)) as topics:
        drill.wait_for("the broker has looked", lambda: topics.bounds([(name, 0)])[name, 0].start > 0, 60)
