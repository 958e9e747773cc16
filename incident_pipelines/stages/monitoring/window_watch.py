"""Published windows against their digests: what was changed behind our back is a signal while it lasts."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.databases.window_contents import (
    found_in,
    outside_statements,
    published_columns,
    watched_windows,
)
from incident_pipelines.adapters.databases.window_digest import can_be_hashed
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.signals import (
    clear_window_signals,
    open_windows,
    raise_window_signal,
    take_cursor,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import Fact, grade
from incident_pipelines.core.window_watch import (
    SLICES,
    OutsideChange,
    Place,
    Span,
    due,
    outside_changes,
    right_again,
    spans,
)
from incident_pipelines.stages.monitoring.monitor import LEVELS, keep_doing

LOGGER = logging.getLogger(__name__)

KIND = "window_changed_outside"
CURSOR = "publication.windows"
EVERY_SECONDS = 30.0
STATEMENT_SECONDS = 60
LOCK_SECONDS = 5


@dataclass(frozen=True)
class Comparison:
    """What one comparison saw.

    Args:
        raised, cleared: numbers of signals.
    """

    windows: int
    rows: int
    raised: int
    cleared: int
    seconds: float


class WindowWatch:
    """Compares windows with what publishing left in them; a second one waits for the first at every step.

    Args:
        environment: WAREHOUSE_URL and CONTROL_DATABASE_URL.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._contracts: dict[str, Contract] = {
            **catalog.landed,
            **{name: mart.contract for name, mart in catalog.marts.items()},
        }
        name = "incident-pipelines window watch"
        self._warehouse = postgres_engine(environment["WAREHOUSE_URL"], name, pool_size=1)
        self._control = postgres_engine(environment["CONTROL_DATABASE_URL"], name, pool_size=1)
        # Where the turns begin is no matter, but a monitor that is started again and again must not begin at one place.
        self._turn = int(time.time() // EVERY_SECONDS) % SLICES
        self._told_unknown: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Compare until told to stop; a database that is down is waited for."""
        keep_doing(self.compare, EVERY_SECONDS, stop, "windows cannot be compared now", "window watch goes on")
        self.close()

    def compare(self) -> Comparison:
        """Compare what is due; signals are one transaction of the control database.

        Digests and rows are read in one snapshot, so that a publish is seen as a whole or not at all.

        Raises:
            SourceUnavailable: warehouse or control database do not answer; nothing was changed.
        """
        started = time.monotonic()
        rows = 0
        with available("control database"), self._control.begin() as control:
            take_cursor(control, CURSOR)
            doubted = open_windows(control, KIND)
            wrong: dict[Place, Fact] = {}
            with available("warehouse"), self._snapshot() as warehouse:
                now = warehouse.execute(text("SELECT now()")).scalar_one()
                parts = self._spans(warehouse, now, doubted)
                for part in parts:
                    contract = self._contracts[part.dataset]
                    found = found_in(warehouse, contract, part)
                    rows += sum(window.rows for window in found)
                    for change in outside_changes(part, found):
                        wrong[(change.dataset, change.start)] = self._fact(warehouse, contract, change, now)
            raised = [signal for signal in (self._raise(control, fact) for fact in wrong.values()) if signal]
            cleared = [
                (place, signal_id)
                for place in right_again(parts, doubted, wrong)
                for signal_id in clear_window_signals(control, KIND, *place)
            ]
        self._turn += 1
        for fact, summary, signal_id in raised:
            severity = grade(KIND).severity
            LOGGER.log(
                LEVELS[severity],
                "signal",
                extra=fields(severity=severity, signal_id=signal_id, kind=KIND, dataset=fact.dataset, summary=summary),
            )
        for (dataset, start), signal_id in cleared:
            LOGGER.info(
                "signal cleared: the window holds again what was published",
                extra=fields(signal_id=signal_id, kind=KIND, dataset=dataset, window_start=start),
            )
        return Comparison(
            windows=sum(len(part.windows) for part in parts),
            rows=rows,
            raised=len(raised),
            cleared=len(cleared),
            seconds=time.monotonic() - started,
        )

    def close(self) -> None:
        """Close the connections."""
        self._warehouse.dispose()
        self._control.dispose()

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with self._warehouse.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            limits = {"statement": f"{STATEMENT_SECONDS}s", "lock": f"{LOCK_SECONDS}s"}
            connection.execute(text("SELECT set_config('statement_timeout', :statement, true)"), limits)
            connection.execute(text("SELECT set_config('lock_timeout', :lock, true)"), limits)
            yield connection

    def _spans(self, warehouse: Connection, now: datetime, doubted: Sequence[Place]) -> list[Span]:
        windows = watched_windows(warehouse, self._contracts)
        tables = published_columns(warehouse, self._contracts.values())
        readable: list[Span] = []
        unknown: set[str] = set()
        for part in spans(windows, due(windows, now, self._turn, doubted), doubted):
            if can_be_hashed(part.columns, tables.get(part.dataset, ())):
                readable.append(part)
            else:
                unknown.add(part.dataset)
        for dataset in sorted(unknown - self._told_unknown):
            LOGGER.warning(
                "windows of a table whose columns have changed cannot be compared until they are published again",
                extra=fields(dataset=dataset),
            )
        self._told_unknown |= unknown
        return readable

    def _fact(self, warehouse: Connection, contract: Contract, change: OutsideChange, now: datetime) -> Fact:
        return Fact(
            fact_id=0,
            kind=KIND,
            dataset=change.dataset,
            window_start=change.start,
            window_end=self._catalog.window_of(contract, change.start.astimezone(UTC)).end,
            detail=change.detail(outside_statements(warehouse, contract, change), put_back=False),
            recorded_at=now,
        )

    def _raise(self, control: Connection, fact: Fact) -> tuple[Fact, str, int] | None:
        summary = summarize(fact)
        signal_id = raise_window_signal(control, fact, grade(KIND), summary)
        return None if signal_id is None else (fact, summary, signal_id)
