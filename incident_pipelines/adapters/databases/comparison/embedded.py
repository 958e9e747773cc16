"""Engines inside this process: one connection, and a time-out that they do not have themselves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from incident_pipelines.adapters.databases.comparison.sql_table import SqlTable
from incident_pipelines.adapters.databases.comparison.table import CHUNK_ROWS
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison


class EmbeddedTable(SqlTable):
    """A table or query of a file.

    Args:
        name: what messages call it.
        timeout_seconds: longest time a statement may take.
        errors: of the driver.
    """

    _connection: Any

    def __init__(self, name: str, timeout_seconds: float, errors: tuple[type[Exception], ...]) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._errors = errors

    def estimated_rows(self) -> int:
        where, values = self._where()
        ((rows,),) = self._all(f"SELECT count(*) FROM {self._source} AS compared{where}", values)
        return rows

    def cancel(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def _quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def _all(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._asking():
            return self._connection.execute(query, values).fetchall()

    def _stream(self, query: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        with self._asking():
            result = self._connection.execute(query, values)
        while True:
            with self._asking():
                rows = result.fetchmany(CHUNK_ROWS)
            yield from rows
            if len(rows) < CHUNK_ROWS:
                return

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Interrupt what takes too long, and say what went wrong."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._connection.interrupt()

        watch = threading.Timer(self._timeout_seconds, end)
        watch.daemon = True
        watch.start()
        try:
            yield
        except self._errors as error:
            if late.is_set():
                raise SourceUnavailable(f"{self._name} did not answer within {self._timeout_seconds:g} s") from error
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InvalidComparison(f"{self._name} cannot be read: {first_line}") from error
        finally:
            watch.cancel()
