"""Who comes to the live site, and when: the visits of the generator, at their time."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from incident_pipelines.example.events import Event, page_view_event
from incident_pipelines.example.visits import MINUTE_US, REACH_MINUTES, SignUp, World, draw_visits


@dataclass(order=True)
class Arrival:
    """A page view or a sign-up attempt at an instant (microseconds since 1970)."""

    due_us: int
    number: int
    page_view: Event | None = field(compare=False, default=None)
    sign_up: SignUp | None = field(compare=False, default=None)


class Arrivals:
    """Hands out arrivals as their time comes.

    Args:
        world: what the visits are drawn from.
        start_us: first instant; whoever came before found the site closed.
    """

    def __init__(self, world: World, start_us: int) -> None:
        self._world = world
        self._start_us = start_us
        self._next_minute = start_us // MINUTE_US - REACH_MINUTES
        self._waiting: list[Arrival] = []
        self._number = 0

    def due(self, now_us: int) -> Iterator[Arrival]:
        """Yield what has come up to an instant, in order."""
        while self._next_minute * MINUTE_US <= now_us:
            self._draw(self._next_minute)
            self._next_minute += 1
        while self._waiting and self._waiting[0].due_us <= now_us:
            yield heapq.heappop(self._waiting)

    def _draw(self, minute: int) -> None:
        for late in (False, True):
            for visit in draw_visits(self._world, minute, late=late):
                for sequence, (seen_us, page) in enumerate(visit.pages, 1):
                    self._add(Arrival(seen_us, 0, page_view=page_view_event(seen_us, visit, page, sequence)))
                if visit.sign_up is not None:
                    self._add(Arrival(visit.sign_up.submitted_us, 0, sign_up=visit.sign_up))

    def _add(self, arrival: Arrival) -> None:
        if arrival.due_us >= self._start_us:
            self._number += 1
            arrival.number = self._number
            heapq.heappush(self._waiting, arrival)
