"""What the engines share: the questions of a comparison as SQL over one source, in whichever dialect."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from incident_pipelines.adapters.databases.comparison.table import (
    ColumnType,
    PairedColumn,
    TableRef,
    View,
    unknown_column,
)
from incident_pipelines.core.reconciliation.digests import Buckets, Digest, Selection
from incident_pipelines.core.reconciliation.matching import RawRow


class SqlTable(ABC):
    """A table or query that is asked in SQL; see `ComparedTable` for the questions."""

    ref: TableRef
    columns: Mapping[str, ColumnType]
    _source: str
    _view: View

    def key_span(self) -> tuple[int, int] | None:
        key = self._view.key[0]
        whole = not (self._view.window or self.ref.where or self.ref.filters or self.ref.query)
        if not whole or len(self._view.key) > 1 or not self._has_ranges(key):
            return None
        name = self._quoted(key.name)
        span = f"SELECT CAST(min({name}) AS BIGINT), CAST(max({name}) AS BIGINT) FROM {self._source}"
        ((least, largest),) = self._all(span, {})
        return (0, 0) if least is None else (least, largest)

    def rows(self, selection: Selection | None) -> Iterator[tuple[int, RawRow]]:
        if selection is None:
            where, values = self._where()
            for row in self._stream(self._read_all(where), values):
                yield 0, row
            return
        source, values = self._selected(selection)
        query = f"SELECT {self._bucket(selection.of)}, {self._columns_read()} FROM {source} ORDER BY 1"
        for row in self._stream(query, values):
            yield row[0], row[1:]

    def _check_filters(self) -> None:
        for condition in self.ref.filters:
            if condition.column not in self.columns:
                raise unknown_column(self.ref, condition.column, list(self.columns))

    def _columns_read(self) -> str:
        return ", ".join(self._read_sql(column) for column in self._view.read)

    def _read_all(self, condition: str) -> str:
        """Return the query for all rows.

        Args:
            condition: what follows the source: joins and WHERE.
        """
        return f"SELECT {self._columns_read()} FROM {self._source} AS compared{condition}"

    def _restricted(self, where: str, condition: str) -> str:
        """Return what to select from with one more condition."""
        return f"{self._source} AS compared{with_condition(where, condition)}"

    @abstractmethod
    def _has_ranges(self, key: PairedColumn) -> bool:
        """Whether ranges of an integer key can be read."""

    @abstractmethod
    def _where(self, windowed: bool = True) -> tuple[str, dict[str, Any]]:
        """Return the conditions that rows count by, and their values."""

    @abstractmethod
    def _selected(self, selection: Selection) -> tuple[str, dict[str, Any]]:
        """Return what to select from, so that only rows of the selection's buckets are met, and its values."""

    @abstractmethod
    def _bucket(self, buckets: Buckets) -> str:
        """Return the SQL of a row's bucket."""

    @abstractmethod
    def _read_sql(self, column: PairedColumn) -> str:
        """Return the SQL of a column as it is read; NULL where this side has none."""

    @abstractmethod
    def _quoted(self, name: str) -> str:
        """Return a name quoted."""

    @abstractmethod
    def _all(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a small result."""

    @abstractmethod
    def _stream(self, query: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a result in bounded memory."""


class HashingTable(SqlTable):
    """One whose engine digests its rows by itself."""

    def digests(self, buckets: Buckets) -> dict[int, Digest]:
        where, values = self._where()
        query = f"{self._digest_sql(buckets)} FROM {self._source} AS compared{where} GROUP BY 1"
        return {bucket: (count, int(total)) for bucket, count, total in self._all(query, values)}

    def finer_digests(self, buckets: Buckets, selection: Selection) -> Iterator[tuple[int, int, int]]:
        source, values = self._selected(selection)
        query = f"{self._digest_sql(buckets)} FROM {source} GROUP BY 1 ORDER BY 1"
        for bucket, count, total in self._stream(query, values):
            yield bucket, count, int(total)

    def _digest_sql(self, buckets: Buckets) -> str:
        return f"SELECT {self._bucket(buckets)}, count(*), sum({self._row_hash_sql(buckets)})"

    @abstractmethod
    def _row_hash_sql(self, buckets: Buckets) -> str:
        """Return the SQL of a row's hash."""


def with_condition(where: str, condition: str) -> str:
    """Return WHERE with one more condition."""
    return f"{where} AND {condition}" if where else f" WHERE {condition}"
