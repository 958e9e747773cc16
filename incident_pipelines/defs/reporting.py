"""Reports published windows to Dagster while a run goes on, some at a time.

Written one by one they cost more than an empty window does itself: two new connections to Dagster's database for each.
Batches need DAGSTER_EVENT_BATCH_SIZE in the run's environment, and Dagster has no public way to ask for them outside of
a result that is returned; without the variable each event is written by itself. A run that is killed may have
published windows that it had not reported yet: its retry does.
"""

import time
from types import TracebackType

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id

WINDOWS_AT_A_TIME = 20
SECONDS_AT_MOST = 1.0
"""Between a window's report and its place in the run's log, while windows go on being published."""


class WindowReports:
    """Materializations of one run on their way into Dagster's event log; leaving the context writes what is left.

    Args:
        context: of the op that publishes.
    """

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self._step = context.get_step_execution_context()
        self._waiting: list[dg.AssetMaterialization] = []
        self._written_at = time.monotonic()

    def __enter__(self) -> "WindowReports":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write()

    def add(self, materialization: dg.AssetMaterialization) -> None:
        """Report one window, at the latest with the next one that comes after `SECONDS_AT_MOST`."""
        self._waiting.append(materialization)
        if len(self._waiting) >= WINDOWS_AT_A_TIME or time.monotonic() - self._written_at >= SECONDS_AT_MOST:
            self._write()

    def _write(self) -> None:
        batch = generate_event_batch_id()
        waiting, self._waiting = self._waiting, []
        for number, materialization in enumerate(waiting, start=1):
            DagsterEvent.asset_materialization(
                self._step, materialization, DagsterEventBatchMetadata(batch, number == len(waiting))
            )
        self._written_at = time.monotonic()
