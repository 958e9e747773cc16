"""Writes a seeded past into sources and topics.

The meaning of a range ``[start, end)`` with a seed and a rate:

- Every event with a time inside it is written, of visits that began inside it or in history of the same seed and rate
  that leads up to it without a hole. What an earlier run left unfinished at its end so goes on, once.
- Rows show the state at the end of what has been written.
- A minute is written once for a seed and rate. Running a range again does only what is not there; after a crash the
  app database, the billing database and the events are each completed from where they stand.
- The digests are those of all events in the range, whenever they were written.
- `created_at` is the simulated time; `updated_at` is when the row was really written, so that whoever reads changed
  rows finds them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psycopg

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.databases import connect, create_tables
from incident_pipelines.example.events import PAGE_VIEWS, TRANSACTIONAL_TOPICS
from incident_pipelines.example.history import History, Slice, Totals, no_totals
from incident_pipelines.example.history_rows import write_app_rows, write_billing_rows
from incident_pipelines.example.progress import gaps, history_since, mark_sent, read_written, record_minutes
from incident_pipelines.example.settings import Settings
from incident_pipelines.example.sinks import EventSink
from incident_pipelines.example.visits import World

EVENTS_PER_ATTEMPT = 16
EVENTS_PER_SLICE = 30_000
MAX_SLICE_MINUTES = 720
# Slices between the generator and the last acknowledgement; more would only take memory.
SLICES_UNDER_WAY = 3


@dataclass(frozen=True)
class Progress:
    """How far a run is: minutes done of all, events written."""

    minutes_done: int
    minutes: int
    events: int


@dataclass(frozen=True)
class Result:
    """What a run did.

    Args:
        stopped_at: first minute (since 1970) that is not done, None when the range is complete.
        seconds: from the first slice to the last acknowledgement.
        written: events that this run wrote and had acknowledged.
        transactional: how many of these went through an outbox.
        totals: count and digest of all events in the range that are written.
        timestamps: how many records carry their event time, and how many the time of sending.
    """

    stopped_at: int | None
    seconds: float
    written: int
    transactional: int
    totals: Totals
    timestamps: dict[str, int]

    @property
    def events_per_second(self) -> float:
        """Events that this run wrote, by its seconds."""
        return self.written / self.seconds if self.seconds else 0.0

    @property
    def transactional_share(self) -> float:
        """Share of all events in the range that went through an outbox."""
        events = sum(total.events for total in self.totals.values())
        return sum(self.totals[topic].events for topic in TRANSACTIONAL_TOPICS) / events if events else 0.0


@dataclass(frozen=True)
class _Part:
    """A slice and what of it is still to be done."""

    slice: Slice
    app: bool
    billing: bool


class Simulation:
    """Writes the history of one world.

    Args:
        settings: databases and folder.
        world: seed and rate.
        sink: where the events go.
        progressed: told after each slice.
        stop: once set, what is under way is finished and nothing new begun.
    """

    def __init__(
        self,
        settings: Settings,
        world: World,
        sink: EventSink,
        progressed: Callable[[Progress], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._world = world
        self._sink = sink
        self._progressed = progressed
        self._stop = stop or threading.Event()
        self._written = 0
        self._transactional = 0

    def run(self, start: int, end: int) -> Result:
        """Write the minutes ``start <= minute < end`` (since 1970-01-01 UTC).

        Raises:
            SourceUnavailable: a database or the broker failed; run it again to go on.
        """
        create_tables(self._settings)
        began = time.perf_counter()
        with (
            connect(self._settings.app_url, autocommit=True, application="simulate") as app,
            connect(self._settings.billing_url, autocommit=True, application="simulate") as billing,
        ):
            try:
                self._lock(app)
                self._run(app, billing, start, end)
                written = read_written(app, self._world, start, end)
            except psycopg.OperationalError as error:
                raise SourceUnavailable(f"a database went away, run it again to go on: {error}".strip()) from error
        totals = no_totals()
        for minute in written.values():
            if minute.sent:
                totals = {topic: totals[topic] + minute.totals[topic] for topic in totals}
        left = gaps(range(start, end), {minute for minute, state in written.items() if state.sent})
        return Result(
            left[0][0] if left else None,
            time.perf_counter() - began,
            self._written,
            self._transactional,
            totals,
            self._sink.timestamps(),
        )

    def _lock(self, app: psycopg.Connection) -> None:
        row = app.execute("SELECT pg_try_advisory_lock(hashtext('simulate'))").fetchone()
        if not row or not row[0]:
            raise SourceUnavailable("another simulation is writing into this app database; wait until it is done")

    def _run(self, app: psycopg.Connection, billing: psycopg.Connection, start: int, end: int) -> None:
        in_app = read_written(app, self._world, start, end)
        in_billing = read_written(billing, self._world, start, end)
        sent = {minute for minute, state in in_app.items() if state.sent}
        done, minutes, events = len(sent), end - start, 0
        self._progressed(Progress(done, minutes, 0))
        with ThreadPoolExecutor(1) as billing_writer, ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as sender:

            def write(part: _Part) -> dict[int, Totals]:
                totals = part.slice.totals()
                with_billing = billing_writer.submit(self._write_billing, billing, part, totals)
                self._write_app(app, part, totals)
                with_billing.result()
                return totals

            def send(part: _Part, rows: Future[dict[int, Totals]]) -> int:
                totals = rows.result()
                self._sink.send(part.slice)
                with connect(self._settings.app_url, application="simulate") as marking:
                    mark_sent(marking, self._world, part.slice.start, part.slice.end)
                return sum(total.events for by_topic in totals.values() for total in by_topic.values())

            under_way: deque[tuple[_Part, Future[int]]] = deque()

            def finish_oldest() -> None:
                nonlocal done, events
                part, future = under_way.popleft()
                count = future.result()
                events += count
                self._written += count
                self._transactional += sum(1 for event in part.slice.events if event.topic != PAGE_VIEWS)
                done += part.slice.end - part.slice.start
                self._progressed(Progress(done, minutes, events))

            for part in self._parts(app, start, end, set(in_app), set(in_billing), sent):
                if len(under_way) >= SLICES_UNDER_WAY:
                    finish_oldest()
                under_way.append((part, sender.submit(send, part, writer.submit(write, part))))
            while under_way:
                finish_oldest()

    def _parts(
        self, app: psycopg.Connection, start: int, end: int, in_app: set[int], in_billing: set[int], sent: set[int]
    ) -> Iterable[_Part]:
        for run_start, run_end in gaps(range(start, end), sent & in_billing):
            # The connection is the writer's by the time the second run begins.
            with connect(self._settings.app_url, application="simulate") as reading:
                since = history_since(reading, self._world, run_start)
            history = History(self._world, run_start, since)
            for first, last in _cut(run_start, run_end, self._world.rate, in_app, in_billing):
                if self._stop.is_set():
                    return
                yield _Part(history.advance(last), first not in in_app, first not in in_billing)

    def _write_app(self, app: psycopg.Connection, part: _Part, totals: dict[int, Totals]) -> None:
        if part.app:
            with app.transaction():
                write_app_rows(app, part.slice, published=self._sink.bypasses_outbox)
                record_minutes(app, self._world, totals)

    def _write_billing(self, billing: psycopg.Connection, part: _Part, totals: dict[int, Totals]) -> None:
        if part.billing:
            with billing.transaction():
                write_billing_rows(billing, part.slice, published=self._sink.bypasses_outbox)
                record_minutes(billing, self._world, totals)


def slice_minutes(rate: float) -> int:
    """Return how many minutes of a mean hour make one slice."""
    return max(1, min(MAX_SLICE_MINUTES, int(EVENTS_PER_SLICE / (rate * 60 * EVENTS_PER_ATTEMPT))))


def _cut(start: int, end: int, rate: float, in_app: set[int], in_billing: set[int]) -> Iterable[tuple[int, int]]:
    """Cut a range on a grid that does not depend on its ends, and where what is there already begins or ends."""
    step = slice_minutes(rate)
    first = start
    for minute in range(start + 1, end + 1):
        on_grid = minute % step == 0
        changes = minute < end and (
            (minute in in_app) != (minute - 1 in in_app) or (minute in in_billing) != (minute - 1 in in_billing)
        )
        if minute == end or on_grid or changes:
            yield first, minute
            first = minute
