"""A producer sends again what was acknowledged and landed: the same events, by the same ids, with the same content."""

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
from confluent_kafka import Producer
from psycopg import sql

from incident_pipelines.core.duplicates import MIN_COPIES
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.example.databases import connect
from incident_pipelines.example.gameday.drill import CannotRun, Drill
from incident_pipelines.example.gameday.scenario import Fault, Scenario

SEND_AGAIN = ("payments", "registrations")
"""Topics whose events stand in an outbox: the producer's own copy is what is sent again."""

LEAST_SHARE, MOST_SHARE = 0.05, 0.3
HOURS = 3
LANDED_SECONDS = 120.0

Sent = dict[tuple[str, datetime], list[UUID]]
"""By topic and hour, ids of events that came from the topic, the oldest first."""


def inject(drill: Drill) -> Fault:
    """Send a part of what came last once more; the fault is over once the copies are landed."""
    victims = drill.random.sample(SEND_AGAIN, drill.random.randint(1, len(SEND_AGAIN)))
    again: dict[str, list[UUID]] = {}
    hours: list[datetime] = []
    with drill.warehouse() as connection:
        for topic in sorted(victims):
            came = _came(connection, topic)
            for hour in sorted(came, reverse=True)[:HOURS]:
                ids, held = came[hour]
                wanted = max(round(len(ids) * drill.random.uniform(LEAST_SHARE, MOST_SHARE)), held, MIN_COPIES) + 1
                chosen = [ids[drill.random.randrange(len(ids))] for _ in range(wanted)]
                again.setdefault(topic, []).extend(chosen)
                hours.append(hour)
        if not again:
            raise CannotRun(f"no events of {', '.join(victims)} have come from their topics yet; wait some minutes")
        before = {topic: _copies(connection, topic) for topic in again}
    told = " and ".join(f"{len(ids):,} events of {topic}" for topic, ids in again.items())
    injured_at = drill.now()
    drill.report(f"sending {told} again, of {len(set(hours))} hours")
    for topic, ids in again.items():
        _send(drill, topic, ids)

    def are_landed() -> bool:
        with drill.warehouse() as connection:
            return all(_copies(connection, topic) >= before[topic] + len(ids) for topic, ids in again.items())

    landed_at = drill.wait_for("the copies are landed", are_landed, LANDED_SECONDS)
    return Fault(
        injured_at=injured_at,
        breached_at=landed_at,
        over_at=landed_at,
        span=TimeWindow(TimeWindow.day_of(min(hours)).start, landed_at + timedelta(days=1)),
        affected={topic: frozenset(one.bytes for one in ids) for topic, ids in again.items()},
        copies={topic: len(ids) for topic, ids in again.items()},
    )


SCENARIO = Scenario(
    name="duplicate-producer",
    summary="Committed events are sent into their topics again; every table has to hold each of them once.",
    causes=frozenset({"duplicates"}),
    inject=inject,
)


def _came(connection: psycopg.Connection, topic: str) -> dict[datetime, tuple[list[UUID], int]]:
    """Return the events that came from a topic, by hour, and how many copies each hour holds already."""
    query = sql.SQL(
        "SELECT date_trunc('hour', l.event_time, 'UTC'), l.event_id, count(*) FROM {} l "
        "JOIN landing.origins o USING (origin_id) WHERE o.kind = 'topic' AND l.reason IS NULL GROUP BY 1, 2 ORDER BY 2"
    ).format(sql.Identifier("landing", topic))
    ids: dict[datetime, list[UUID]] = defaultdict(list)
    copies: dict[datetime, int] = defaultdict(int)
    for hour, event_id, times in connection.execute(query):
        ids[hour].append(UUID(event_id))
        copies[hour] += times - 1
    return {hour: (ids[hour], copies[hour]) for hour in ids}


def _copies(connection: psycopg.Connection, topic: str) -> int:
    return sum(copies for _, copies in _came(connection, topic).values())


def _send(drill: Drill, topic: str, ids: list[UUID]) -> None:
    producer = Producer({"bootstrap.servers": drill.settings.kafka, "enable.idempotence": True, "log_level": 0})
    found: dict[UUID, tuple[UUID, bytes, datetime]] = {}
    for url in (drill.settings.app_url, drill.settings.billing_url):
        with connect(url, application="game day") as connection:
            rows = connection.execute(
                "SELECT event_id, correlation_id, value, created_at FROM outbox WHERE event_id = ANY (%s)", (ids,)
            )
            found |= {event_id: (key, bytes(value), at) for event_id, key, value, at in rows}
    for event_id in ids:
        key, value, at = found[event_id]
        milliseconds = int(at.timestamp() * 1000)
        producer.produce(drill.settings.topic_prefix + topic, value, str(key).encode(), timestamp=milliseconds)
        producer.poll(0)
    if producer.flush(60):
        raise CannotRun(f"Kafka did not take all events of {topic}")
