"""Two tables that are asked at once, each by a thread of its own."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from incident_pipelines.adapters.databases.comparison import open_table
from incident_pipelines.adapters.databases.comparison.table import CHUNK_ROWS, ComparedTable, TableRef

_QUEUED_CHUNKS = 4
_LOOK_SECONDS = 0.5

T = TypeVar("T")


class TablePair:
    """The open sides of a comparison.

    Args:
        statement_timeout_seconds: longest time a statement may take.

    Raises:
        SourceUnavailable: a side does not answer.
        InvalidComparison: a side cannot be compared.
    """

    def __init__(self, source: TableRef, target: TableRef, statement_timeout_seconds: float) -> None:
        self._pools = (ThreadPoolExecutor(1, "compare-source"), ThreadPoolExecutor(1, "compare-target"))
        self._stopped = threading.Event()
        self._opened: list[ComparedTable] = []

        def opened(ref: TableRef) -> ComparedTable:
            table = open_table(ref, statement_timeout_seconds)
            self._opened.append(table)
            return table

        try:
            self.source, self.target = self._both(lambda: opened(source), lambda: opened(target))
        except BaseException:
            self.close()
            raise

    def both(self, ask: Callable[[ComparedTable], T]) -> tuple[T, T]:
        """Ask both sides the same at once.

        Raises:
            Exception: what the first side that failed raised; the other one is cancelled.
        """
        return self._both(lambda: ask(self.source), lambda: ask(self.target))

    def streams(self, ask: Callable[[ComparedTable], Iterable[T]]) -> tuple[Iterator[T], Iterator[T]]:
        """Let both sides give what they are asked at once; a few chunks are held, the rest waits."""
        return self._stream(0, lambda: ask(self.source)), self._stream(1, lambda: ask(self.target))

    def close(self) -> None:
        """Cancel what is running, and give everything back."""
        self._stopped.set()
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for table in self._opened:
            table.cancel()
        for pool in self._pools:
            pool.shutdown(wait=True)
        for table in self._opened:
            table.close()
        self._opened.clear()

    def _both(self, ask_source: Callable[[], T], ask_target: Callable[[], T]) -> tuple[T, T]:
        source, target = self._pools[0].submit(ask_source), self._pools[1].submit(ask_target)
        done, waiting = wait((source, target), return_when=FIRST_EXCEPTION)
        failed = next((future for future in done if future.exception() is not None), None)
        if failed is not None and waiting:
            for table in list(self._opened):
                table.cancel()
        return (source.result(), target.result()) if failed is None else _raised(failed)

    def _stream(self, side: int, ask: Callable[[], Iterable[T]]) -> Iterator[T]:
        chunks: queue.Queue[list[T] | BaseException] = queue.Queue(_QUEUED_CHUNKS)
        abandoned = threading.Event()

        def put(chunk: list[T] | BaseException) -> bool:
            while not (self._stopped.is_set() or abandoned.is_set()):
                with suppress(queue.Full):
                    chunks.put(chunk, timeout=_LOOK_SECONDS)
                    return True
            return False

        def pump() -> None:
            try:
                rows = iter(ask())
                while put(chunk := list(islice(rows, CHUNK_ROWS))) and chunk:
                    pass
            except Exception as error:
                put(error)

        # At once, not when the first row is asked for: both sides are to run.
        self._pools[side].submit(pump)

        def received() -> Iterator[T]:
            try:
                while chunk := chunks.get():
                    if isinstance(chunk, BaseException):
                        raise chunk
                    yield from chunk
            finally:
                abandoned.set()

        return received()


def _raised(failed: Future[T]) -> tuple[T, T]:
    """Raise what a side raised."""
    raise failed.exception() or AssertionError
