"""Slices of a seeded past: what happened in some minutes, and which rows that leaves.

A slice holds every event with ``start <= time < end`` of the visits that start at or after `since`. So a history from
a to c is the same as one from a to b and one from b to c that still knows `since` = a: nothing is lost or doubled
where they meet, and what is unfinished at b goes on in the second one.
"""

from dataclasses import dataclass
from hashlib import blake2b

from incident_pipelines.example.events import TOPICS, Event, events_of
from incident_pipelines.example.visits import (
    LATE_REACH_MINUTES,
    MINUTE_US,
    REACH_MINUTES,
    SignUp,
    Visit,
    World,
    draw_visits,
)

DIGEST_MODULUS = 1 << 128


@dataclass(frozen=True)
class TopicTotal:
    """Count and order-independent digest of some events of one topic (sum of BLAKE2b-128 of the values, mod 2^128)."""

    events: int = 0
    digest: int = 0

    def __add__(self, other: "TopicTotal") -> "TopicTotal":
        return TopicTotal(self.events + other.events, (self.digest + other.digest) % DIGEST_MODULUS)


Totals = dict[str, TopicTotal]


def no_totals() -> Totals:
    """Return zero for each topic."""
    return {topic: TopicTotal() for topic in TOPICS}


@dataclass(frozen=True)
class Slice:
    """What happened in the minutes ``start <= minute < end`` (minutes since 1970-01-01 UTC).

    Args:
        events: in order of time.
        sign_ups: those with a step in the slice; their state is to be taken at its end.
    """

    start: int
    end: int
    events: list[Event]
    sign_ups: list[SignUp]

    @property
    def start_us(self) -> int:
        """First instant of the slice."""
        return self.start * MINUTE_US

    @property
    def end_us(self) -> int:
        """First instant after the slice."""
        return self.end * MINUTE_US

    def totals(self) -> dict[int, Totals]:
        """Return count and digest by minute and topic; minutes without events are there too."""
        counts = {minute: dict.fromkeys(map(str, TOPICS), 0) for minute in range(self.start, self.end)}
        sums = {minute: dict.fromkeys(map(str, TOPICS), 0) for minute in range(self.start, self.end)}
        from_bytes = int.from_bytes
        for event in self.events:
            minute = event.time_us // MINUTE_US
            counts[minute][event.topic] += 1
            sums[minute][event.topic] += from_bytes(blake2b(event.value, digest_size=16).digest())
        return {
            minute: {topic: TopicTotal(counts[minute][topic], sums[minute][topic] % DIGEST_MODULUS) for topic in TOPICS}
            for minute in counts
        }


class History:
    """Goes through a seeded past slice by slice.

    Args:
        world: seed, rate and stream.
        at: first minute of the first slice (minutes since 1970-01-01 UTC).
        since: first minute whose visits count, at or before `at`; earlier ones do not exist.
    """

    def __init__(self, world: World, at: int, since: int) -> None:
        self._world = world
        self._at = at
        self._events: list[Event] = []
        self._sign_ups: list[SignUp] = []
        for minute in range(max(since, at - LATE_REACH_MINUTES), at):
            self._take(minute, late=True)
            if minute >= at - REACH_MINUTES:
                self._take(minute, late=False)
        start_us = at * MINUTE_US
        self._events = [event for event in self._events if event.time_us >= start_us]
        self._sign_ups = [sign_up for sign_up in self._sign_ups if sign_up.last_us >= start_us]

    @property
    def unfinished(self) -> list[SignUp]:
        """Sign-ups that go on after the last slice; some of them begin only then."""
        return list(self._sign_ups)

    def advance(self, end: int) -> Slice:
        """Return the next slice, up to a minute (exclusive)."""
        start_us, end_us = self._at * MINUTE_US, end * MINUTE_US
        for minute in range(self._at, end):
            self._take(minute, late=True)
            self._take(minute, late=False)
        inside = [event for event in self._events if event.time_us < end_us]
        inside.sort()
        touched = [sign_up for sign_up in self._sign_ups if sign_up.submitted_us < end_us]
        result = Slice(start_us // MINUTE_US, end, inside, touched)
        self._events = [event for event in self._events if event.time_us >= end_us]
        self._sign_ups = [sign_up for sign_up in self._sign_ups if sign_up.last_us >= end_us]
        self._at = end
        return result

    def _take(self, minute: int, *, late: bool) -> None:
        for visit in draw_visits(self._world, minute, late=late):
            self._take_visit(visit)

    def _take_visit(self, visit: Visit) -> None:
        self._events.extend(events_of(visit))
        if visit.sign_up is not None:
            self._sign_ups.append(visit.sign_up)
