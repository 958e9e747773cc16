"""Brings missing events back: read from a source, and appended to the landing log under the incident's own origin.

Rows of a table are appended as an extract does it, under the origin of extracts.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from sqlalchemy import Engine, create_engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.source_table import Row, SourceTable
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.recovery_sources import recovery_sources
from incident_pipelines.adapters.recovery_sources.source import Problem, Replayable
from incident_pipelines.adapters.stores.log_append import append, events_in_log, hours_in_log, keep_other_replays_out
from incident_pipelines.adapters.stores.recovery_budget import count_replayed, open_budget, take_budget, take_turn
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import microseconds
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import GuardrailReached, SourceUnavailable
from incident_pipelines.core.recovery.guardrails import Guardrails, fails_too_often
from incident_pipelines.core.recovery.plan import Replay
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.stages.landing.extract import append_changed

MAX_PROBLEMS = 20
PAUSE_SECONDS = 0.5
"""Longest sleep between two looks at whether a person has stopped it."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class ReplayedSpan:
    """What one source brought back of windows that follow each other; up to where it could be read.

    Args:
        read: events the source had.
        appended: those that the log did not have.
        failed: of these, the ones that break their contract: dead letters.
        problems: what the source could not give, the first of them.
        unavailable: why the source could not be read to its end; None if it was.
    """

    dataset: str
    window: TimeWindow
    source: str
    read: int
    appended: int
    failed: int
    problems: tuple[Problem, ...] = ()
    unavailable: str | None = None


class Replayer:
    """Replays one plan; begun again, it appends only what is not in the log yet.

    Args:
        environment: addresses of the warehouse, Kafka and the catalog's sources.
        incident_id: its origin in the log is called so.
        plan_id: whose budget is taken.
        check: called before anything is appended; raises if it has to stop.
    """

    def __init__(
        self,
        control: Engine,
        warehouse: Engine,
        catalog: Catalog,
        environment: Mapping[str, str],
        incident_id: str,
        plan_id: int,
        limits: Guardrails,
        *,
        check: Callable[[], None] = lambda: None,
        report: Report = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._control = control
        self._warehouse = warehouse
        self._catalog = catalog
        self._environment = environment
        self._incident_id = incident_id
        self._plan_id = plan_id
        self._limits = limits
        self._check = check
        self._report = report
        self._clock = clock

    def replay(self, replays: Sequence[Replay]) -> Iterator[ReplayedSpan]:
        """Replay parts of windows, yielding each span and source as it is done; the sources of a span in their order.

        Raises:
            GuardrailReached: too many of the replayed fail, or the plan's budget is used up.
            SourceUnavailable: control database or warehouse do not answer. What was appended stays.
        """
        with available("control database"), self._control.begin() as connection:
            open_budget(connection, self._plan_id, self._limits.events_at_most)
            take_turn(connection, 0)  # no time from before it began is given to it
        sources = recovery_sources(self._catalog, self._environment)
        for dataset, source_names, span in spans(replays):
            for name in source_names:
                contract = self._catalog.landed[dataset]
                self._report(f"{dataset} {span}: replaying from {name}")
                if isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource):
                    yield self._extract(contract, contract.origin, span)
                    continue
                problems: list[Problem] = []

                def tell(problem: Problem, problems: list[Problem] = problems) -> None:
                    if len(problems) < MAX_PROBLEMS:
                        problems.append(problem)

                batches = sources[name].replayable(dataset, span, tell)
                yield self._append_all(dataset, span, name, batches, problems)

    def _append_all(
        self, dataset: str, span: TimeWindow, name: str, batches: Iterator[Replayable], problems: list[Problem]
    ) -> ReplayedSpan:
        read = appended = failed = 0
        unavailable: str | None = None
        while True:
            try:
                batch = next(batches, None)
            except SourceUnavailable as error:
                unavailable = str(error)
                break
            if batch is None:
                break
            read += len(batch.messages.values)
            times = _times(batch)
            with self._log() as log:
                seen = hours_in_log(log, dataset, times)
                missing = _missing(log, dataset, batch, times)
            if missing is not None:
                count, dead_letters = self._append(dataset, missing, times, seen)
                appended += count
                failed += dead_letters
        return ReplayedSpan(dataset, span, name, read, appended, failed, tuple(problems), unavailable)

    def _append(
        self, dataset: str, missing: Replayable, times: NDArray[np.int64], seen: tuple[int, int | None]
    ) -> tuple[int, int]:
        """Append what the log does not have, and return how many that are and how many of them are dead letters.

        Args:
            times: of which the hours were `seen` like this before it was looked for.
        """
        self._take(len(missing.messages.values))
        failpoint("replay.before_append")
        with self._log() as log:
            keep_other_replays_out(log, dataset)
            if hours_in_log(log, dataset, times) != seen:
                # Looked for again: another run may have appended some of them since.
                left = _missing(log, dataset, missing, _times(missing))
                if left is None:
                    return 0, 0
                missing = left
            append(
                log,
                dataset,
                "recovery",
                missing.messages,
                missing.envelopes,
                landed_at=microseconds(self._clock()),
                note=self._incident_id,
            )
            failpoint("replay.before_commit")
        failpoint("replay.after_commit")
        events = len(missing.messages.values)
        failed = sum(reason is not None for reason in missing.envelopes.reasons)
        self._count(events, failed)
        return events, failed

    def _take(self, events: int) -> None:
        """Take budget and turn for events that are appended next: before, so that a crash cannot exceed them."""
        self._check()
        with available("control database"), self._control.begin() as connection:
            if not take_budget(connection, self._plan_id, events):
                raise GuardrailReached(
                    f"the plan may replay {self._limits.events_at_most:,} events in all, and there are more: "
                    "look at what the source has, then let a new plan be made"
                )
        self._wait_for_turn(events)

    def _count(self, events: int, failed: int) -> None:
        """Count what was appended; the replay ends where too much of it fails."""
        with available("control database"), self._control.begin() as connection:
            total = count_replayed(connection, self._plan_id, events, failed)
        if fails_too_often(total.events, total.failed):
            raise GuardrailReached(
                f"{total.failed:,} of {total.events:,} replayed events break their contract: the source does not hold "
                "what it should, or the contract has changed"
            )

    def _wait_for_turn(self, events: int) -> None:
        rate = self._limits.events_per_second
        if rate is None:
            return
        with available("control database"), self._control.begin() as connection:
            left = take_turn(connection, events / rate)
        deadline = time.monotonic() + left
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, PAUSE_SECONDS))
            self._check()

    @contextmanager
    def _log(self) -> Iterator[psycopg.Connection[Any]]:
        with available("warehouse"), self._warehouse.begin() as connection:
            yield cast("psycopg.Connection[Any]", connection.connection.driver_connection)

    def _extract(self, contract: RowsContract, origin: TableSource, span: TimeWindow) -> ReplayedSpan:
        """Append rows as their table has them now, page by page under the same guardrails."""
        variable = self._catalog.sources[origin.source]
        url = self._environment.get(variable)
        self._check()
        if not url:
            return ReplayedSpan(contract.name, span, origin.source, 0, 0, 0, (), f"{variable} is not set")
        source = create_engine(url)
        read = appended = failed = 0
        unavailable: str | None = None

        def pages() -> Iterator[list[Row]]:
            nonlocal read, unavailable
            try:
                for page in SourceTable(source, contract).created_in(span):
                    read += len(page)
                    yield page
            except SourceUnavailable as error:  # of the source alone: without log and budget nothing may go on
                unavailable = str(error)

        def count(rows: int, dead_letters: int) -> None:
            nonlocal appended, failed
            appended += rows
            failed += dead_letters
            self._count(rows, dead_letters)

        try:
            append_changed(
                self._warehouse, self._catalog, contract, pages(), self._clock(), before=self._take, after=count
            )
        finally:
            source.dispose()
        return ReplayedSpan(contract.name, span, origin.source, read, appended, failed, (), unavailable)


def spans(replays: Sequence[Replay]) -> Iterator[tuple[str, tuple[str, ...], TimeWindow]]:
    """Yield (dataset, sources, span): windows that follow each other on one day and take the same sources are one."""
    ordered = sorted(replays, key=lambda one: (one.dataset, one.sources, one.window))
    for (dataset, sources), group in groupby(ordered, key=lambda one: (one.dataset, one.sources)):
        span: TimeWindow | None = None
        for one in group:
            if span is not None and span.end == one.window.start and one.window.end - span.start <= DAY:
                span = TimeWindow(span.start, one.window.end)
                continue
            if span is not None:
                yield dataset, sources, span
            span = one.window
        if span is not None:
            yield dataset, sources, span


def _times(batch: Replayable) -> NDArray[np.int64]:
    return np.asarray(batch.envelopes.event_times, np.int64)


def _missing(
    log: psycopg.Connection[Any], dataset: str, batch: Replayable, times: NDArray[np.int64]
) -> Replayable | None:
    """Return what the log does not have of a batch, each event once."""
    # A dead letter without an id is told apart by its bytes, as the log's own count does it.
    ids = [
        event_id or hashlib.md5(value or b"", usedforsecurity=False).hexdigest()
        for event_id, value in zip(batch.envelopes.event_ids, batch.messages.values, strict=True)
    ]
    known = events_in_log(log, dataset, ids, times)
    places: list[int] = []
    for place, event_id in enumerate(ids):
        if event_id not in known:
            known.add(event_id)
            places.append(place)
    if not places:
        return None
    if len(places) == len(ids):
        return batch
    return Replayable(batch.messages.taken(places), batch.envelopes.taken(places))
