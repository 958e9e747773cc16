"""A lander that a test drives step by step: it fetches, writes, dies or falls asleep when it is told to."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from confluent_kafka import TopicPartition

from incident_pipelines.adapters import failpoints
from incident_pipelines.adapters.kafka.consumer import offset_bounds
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.stages.landing import land
from incident_pipelines.stages.landing.land import Lander

# pyright: reportPrivateUsage=false

ANSWER_SECONDS = 20.0


class Died(Exception):
    """A failpoint was passed: whoever passed it does nothing more."""


@contextmanager
def dies_at(point: str, passes: int = 1) -> Iterator[None]:
    """Whoever passes a failpoint within the block dies there: by an exception, as this process has to live on."""

    def kill(*_: object) -> None:
        raise Died(point)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "os", SimpleNamespace(kill=kill, getpid=lambda: 0))
        patch.setattr(failpoints, "_remaining", {point: passes})
        yield


class SteppedLander:
    """What a lander does between joining its group and leaving it; its partitions are given to it, not assigned.

    Args:
        environment: of a lander.
        topic: all of its partitions are read.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str], topic: str, member: str) -> None:
        lander = Lander(catalog, environment, member, group=f"stepped-{topic}")
        self.session = land._Session(lander, threading.Event())
        self.dead = False
        consumer = self.session._consumer
        found = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions
        try:
            self.session._assigned(consumer, [TopicPartition(topic, number) for number in found])
        except BaseException:
            self.close()
            raise

    def fetch(self, records: int | None = None) -> int:
        """Take records from the broker, so many at most, or all there are; nothing of them is written yet."""
        consumer, partitions = self.session._consumer, self.session._partitions
        ends = {place: offset_bounds(consumer, *place).end for place in partitions}
        taken, deadline = 0, time.monotonic() + ANSWER_SECONDS
        while any(partition.following < ends[place] for place, partition in partitions.items()):
            if records is not None and taken >= records:
                break
            assert time.monotonic() < deadline, f"the broker gave {taken} records and not all up to {ends}"
            messages = consumer.consume(1 if records else land.FETCH_RECORDS, timeout=0.05)
            taken += sum(message.error() is None for message in messages)
            self.session._take(messages)
        return taken

    def write(self) -> None:
        """Write what was fetched.

        Raises:
            Fenced: another lander has taken a partition over; nothing was written to it.
            Died: at a failpoint.
        """
        self.session._flush(0)
        self.session._writer.drain(ANSWER_SECONDS)
        self.session._writer.check()
        self.session._check_fences()

    def close(self) -> None:
        """End it, with whatever it has not written."""
        if not self.dead:
            self.dead = True
            self.session.close()
