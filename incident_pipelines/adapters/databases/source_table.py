"""Reads the declared columns of a table of somebody else's database, on any engine SQLAlchemy knows."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Select,
    Uuid,
    and_,
    column,
    inspect,
    or_,
    select,
    table,
)
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.core.contracts.model import Column, RowsContract, TableSource
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import TimeWindow

PAGE_ROWS = 5_000
KEYS_AT_A_TIME = 200

_SNAPSHOTS = {"postgresql": "REPEATABLE READ", "mysql": "REPEATABLE READ", "mariadb": "REPEATABLE READ"}

Row = tuple[Any, ...]


class SourceTable:
    """The table behind a rows contract.

    Args:
        engine: of its database; SELECT is all that is needed.
        contract: rows read from a table.
        page_rows: rows held in memory at a time.
    """

    def __init__(self, engine: Engine, contract: RowsContract, page_rows: int = PAGE_ROWS) -> None:
        assert isinstance(contract.origin, TableSource)
        self._engine = engine
        self._contract = contract
        self._origin = contract.origin
        self._page_rows = page_rows
        self._name = f"{self._origin.source}: {self._origin.schema}.{self._origin.table}"

    def changed_since(self, since: datetime | None) -> Iterator[list[Row]]:
        """Yield the rows whose `updated_at` is at or after an instant, oldest change first, page by page.

        All pages are of one snapshot where the engine has one. Values stand in the order of the contract's columns.

        Raises:
            SourceUnavailable: the database does not answer, or the table is not there as declared.
        """
        return self._pages(self._origin.updated_at, since, None)

    def created_in(self, window: TimeWindow) -> Iterator[list[Row]]:
        """Yield the rows created in a window, all where there is no creation time; else like `changed_since`."""
        if self._contract.time_column is None:
            return self._pages(None, None, None)
        return self._pages(self._contract.time_column, window.start, window.end)

    def having(self, name: str, value: str | int, limit: int) -> list[Row]:
        """Return rows with a value in a column, like the pages of `changed_since`.

        Args:
            value: as the contract's column has it; the table may write it in another way.
            limit: most rows to return.
        """
        with self._reading(), self._snapshot() as connection:
            columns, rows = self._select(connection)
            written = _written(self._contract.column(name), columns[name].type, value)
            return [tuple(row) for row in connection.execute(rows.where(columns[name].in_(written)).limit(limit))]

    def holding(self, keys: Sequence[Sequence[Any]]) -> list[Row]:
        """Return the rows of some primary keys that the table has, like the pages of `changed_since`.

        Args:
            keys: values of the key columns in the order of the contract, in the types that PostgreSQL gives them.
        """
        with self._reading(), self._snapshot() as connection:
            columns, rows = self._select(connection)
            found: list[Row] = []
            for first in range(0, len(keys), KEYS_AT_A_TIME):
                asked = [
                    and_(
                        *(
                            columns[name].in_(_written(self._contract.column(name), columns[name].type, value))
                            for name, value in zip(self._contract.primary_key, key, strict=True)
                        )
                    )
                    for key in keys[first : first + KEYS_AT_A_TIME]
                ]
                found += [tuple(row) for row in connection.execute(rows.where(or_(*asked)))]
            return found

    def _select(self, connection: Connection) -> tuple[dict[str, ColumnClause[Any]], Select[Any]]:
        types = self._types(connection, [declared.name for declared in self._contract.columns])
        columns = {declared.name: column(declared.name, types[declared.name]) for declared in self._contract.columns}
        schema = None if connection.dialect.name == "sqlite" else self._origin.schema
        source = table(self._origin.table, *columns.values(), schema=schema)
        return columns, select(*columns.values()).select_from(source)

    def _pages(self, by: str | None, first: datetime | None, end: datetime | None) -> Iterator[list[Row]]:
        with self._reading(), self._snapshot() as connection:
            columns, rows = self._select(connection)
            names = list(columns)
            order = [*([by] if by else []), *(name for name in self._contract.primary_key if name != by)]
            bounds: list[ColumnElement[bool]] = []
            if by:
                bounds.append(columns[by].is_not(None))
                if first is not None:
                    bounds.append(columns[by] >= _comparable(first, columns[by].type))
                if end is not None:
                    bounds.append(columns[by] < _comparable(end, columns[by].type))
            query = rows.order_by(*(columns[name] for name in order))
            last: list[Any] | None = None
            while True:
                after = [] if last is None else [_after([columns[name] for name in order], last)]
                page = [
                    tuple(row) for row in connection.execute(query.where(*bounds, *after).limit(self._page_rows)).all()
                ]
                if page:
                    yield page
                if len(page) < self._page_rows:
                    return
                last = [page[-1][names.index(name)] for name in order]

    def _types(self, connection: Connection, names: Sequence[str]) -> dict[str, Any]:
        schema = None if connection.dialect.name == "sqlite" else self._origin.schema
        types = {found["name"]: found["type"] for found in inspect(connection).get_columns(self._origin.table, schema)}
        missing = [name for name in names if name not in types]
        if missing:
            raise SourceUnavailable(
                f"{self._name} has no column {', '.join(missing)}, which contract {self._contract.name} declares"
            )
        return types

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        dialect = self._engine.dialect.name
        with self._engine.connect() as connection:
            if dialect in _SNAPSHOTS:
                connection = connection.execution_options(isolation_level=_SNAPSHOTS[dialect])
            if dialect == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Whatever the database answers but rows says nothing about the data."""
        try:
            with available(f"{self._origin.source} database"):
                yield
        except NoSuchTableError as error:
            raise SourceUnavailable(
                f"{self._name} does not exist, or may not be seen; contract {self._contract.name} reads it"
            ) from error
        except DBAPIError as error:
            first_line = str(error.orig).strip().splitlines()[0]
            raise SourceUnavailable(f"{self._name} cannot be read: {first_line}") from error


def _comparable(instant: datetime, column_type: Any) -> datetime:
    """Columns without a zone hold UTC."""
    if isinstance(column_type, DateTime) and not column_type.timezone:
        return instant.astimezone(UTC).replace(tzinfo=None)
    return instant


def _written(declared: Column, column_type: Any, value: Any) -> list[Any]:
    """The value as the column's own type takes it; a UUID kept as text may be in either case."""
    if isinstance(value, uuid.UUID):
        value = str(value)
    if isinstance(value, datetime):
        return [_comparable(value, column_type)]
    if isinstance(column_type, Uuid) and isinstance(value, str):
        return [uuid.UUID(value) if column_type.as_uuid else value]
    if isinstance(value, str) and declared.type == "uuid":
        return [value, value.upper()]
    return [value]


def _after(columns: Sequence[ColumnElement[Any]], last: Sequence[Any]) -> ColumnElement[bool]:
    """The rows behind the last one; written so that every engine understands it and an index can serve."""
    further = [
        and_(*(columns[before] == last[before] for before in range(index)), columns[index] > last[index])
        for index in range(len(columns))
    ]
    return and_(columns[0] >= last[0], or_(*further))
