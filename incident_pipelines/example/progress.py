"""How far simulated history has been written, so that a second run goes on where the first one stopped.

Each database keeps its own record, in the transaction that writes the rows: after a crash each of them is completed
from where it stands. The app's record also says whether the events of a minute have been sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.history import TopicTotal, Totals
from incident_pipelines.example.visits import LATE_REACH_MINUTES, World

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def minute_of(instant: datetime) -> int:
    """Return the minutes since 1970-01-01 UTC."""
    return int((instant - _EPOCH) // timedelta(minutes=1))


def instant_of(minute: int) -> datetime:
    """Return the first instant of a minute since 1970-01-01 UTC."""
    return _EPOCH + timedelta(minutes=minute)


@dataclass(frozen=True)
class Written:
    """A minute that stands in a database.

    Args:
        sent: whether its events have been acknowledged by Kafka or the log.
        totals: count and digest of its events.
    """

    sent: bool
    totals: Totals


def read_written(connection: psycopg.Connection, world: World, start: int, end: int) -> dict[int, Written]:
    """Return the minutes in ``start <= minute < end`` that stand in a database."""
    rows = connection.execute(
        statement("simulated_minutes"), (world.seed, world.rate, instant_of(start), instant_of(end))
    ).fetchall()
    return {
        minute_of(minute): Written(
            sent,
            {
                topic: TopicTotal(count, int(digest, 16))
                for topic, count, digest in zip(TOPICS, events, digests, strict=True)
            },
        )
        for minute, sent, events, digests in rows
    }


def record_minutes(connection: psycopg.Connection, world: World, totals: dict[int, Totals]) -> None:
    """Record minutes in the transaction that writes their rows."""
    with connection.cursor() as cursor:
        cursor.executemany(
            statement("insert_minutes"),
            [
                (
                    world.seed,
                    world.rate,
                    instant_of(minute),
                    False,
                    [by_topic[topic].events for topic in TOPICS],
                    [f"{by_topic[topic].digest:032x}" for topic in TOPICS],
                )
                for minute, by_topic in totals.items()
            ],
        )


def mark_sent(connection: psycopg.Connection, world: World, start: int, end: int) -> None:
    """Record that all events of ``start <= minute < end`` have been acknowledged."""
    connection.execute(statement("mark_sent"), (world.seed, world.rate, instant_of(start), instant_of(end)))


def mark_taken_over(connection: psycopg.Connection, world: World) -> None:
    """Record that the live service finishes what this history left unfinished: no later history goes on with it."""
    connection.execute(
        "UPDATE simulation.minutes SET taken_over = true WHERE seed = %s AND rate = %s", (world.seed, world.rate)
    )


def history_since(connection: psycopg.Connection, world: World, at: int) -> int:
    """Return the first minute of the unbroken history that leads up to a minute, looking back as far as matters."""
    row = connection.execute(
        statement("history_since"),
        {
            "at": instant_of(at),
            "seed": world.seed,
            "rate": world.rate,
            "earliest": instant_of(at - LATE_REACH_MINUTES),
        },
    ).fetchone()
    return minute_of(row[0]) if row and row[0] else at


def gaps(minutes: Iterable[int], done: set[int]) -> list[tuple[int, int]]:
    """Return the runs ``start <= minute < end`` of minutes that are not done, in order."""
    found: list[tuple[int, int]] = []
    for minute in minutes:
        if minute in done:
            continue
        if found and found[-1][1] == minute:
            found[-1] = (found[-1][0], minute + 1)
        else:
            found.append((minute, minute + 1))
    return found
