"""A side of a comparison on any other engine: its rows are read once, into a temporary SQLite file.

Engines sort texts, NULLs and ids each in its own way, so rows of two engines cannot be merged as they come sorted. What
is read once can be looked at as often as needed, in memory that does not depend on the number of rows.
"""

import sqlite3
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import URL, Engine, column, create_engine, inspect, make_url, select, table, text, types
from sqlalchemy.exc import InterfaceError, NoSuchModuleError, NoSuchTableError, OperationalError, SQLAlchemyError
from sqlalchemy.sql.elements import ColumnElement

from incident_pipelines.adapters.databases.comparison.sqlite import SqliteTable
from incident_pipelines.adapters.databases.comparison.table import CHUNK_ROWS, ColumnType, TableRef
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison
from incident_pipelines.core.reconciliation.values import Family

_FAMILIES: tuple[tuple[type[types.TypeEngine[Any]], Family], ...] = (
    (types.Boolean, "boolean"),
    (types.Integer, "integer"),
    (types.Float, "float"),
    (types.Numeric, "decimal"),
    (types.DateTime, "timestamp"),
    (types.Date, "date"),
    (types.Uuid, "uuid"),
    (types.JSON, "json"),
    (types.LargeBinary, "bytes"),
    (types.String, "text"),
)


class SpooledTable(SqliteTable):
    """A table or query of an engine that SQLAlchemy knows.

    Raises:
        SourceUnavailable: the database does not answer.
        InvalidComparison: its driver is not installed, or the table is not there.
    """

    def __init__(self, ref: TableRef, statement_timeout_seconds: float) -> None:
        self._remote = ref
        self._folder = tempfile.TemporaryDirectory(prefix="incident-pipelines-compare-")
        self._stopped = threading.Event()
        try:
            path = Path(self._folder.name) / "rows.sqlite"
            families = self._spool(path, statement_timeout_seconds)
            local = replace(ref, url=URL.create("sqlite", database=str(path)).render_as_string(), table="spooled")
            super().__init__(replace(local, query=None, where=None), statement_timeout_seconds, families, ref.name)
        except BaseException:
            self._folder.cleanup()
            raise

    def cancel(self) -> None:
        self._stopped.set()
        super().cancel()

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def _spool(self, path: Path, timeout_seconds: float) -> Mapping[str, ColumnType]:
        ref = self._remote
        try:
            engine = create_engine(make_url(ref.url), pool_pre_ping=False)
        except (NoSuchModuleError, ImportError) as error:
            raise InvalidComparison(f"{ref.name} cannot be read: {error}; install its SQLAlchemy driver") from error
        try:
            return self._copy(engine, path, timeout_seconds)
        except NoSuchTableError as error:
            raise InvalidComparison(f"{ref.name} does not exist, or may not be seen") from error
        except (OperationalError, InterfaceError) as error:
            raise SourceUnavailable(f"{ref.name} cannot be reached: {_first_line(error)}") from error
        except (SQLAlchemyError, ImportError) as error:
            raise InvalidComparison(f"{ref.name} cannot be read: {_first_line(error)}") from error
        finally:
            engine.dispose()

    def _copy(self, engine: Engine, path: Path, timeout_seconds: float) -> Mapping[str, ColumnType]:
        with engine.connect().execution_options(stream_results=True, yield_per=CHUNK_ROWS) as connection:
            families = {} if self._remote.query is not None else self._families(connection)
            result = connection.execute(self._select(list(families)))
            names = list(result.keys())
            families = families or {name: ColumnType("other", "") for name in names}
            local = sqlite3.connect(path)
            quoted = ['"' + name.replace('"', '""') + '"' for name in names]
            # Columns without a type keep what is put in.
            local.execute(f"CREATE TABLE spooled ({', '.join(quoted)})")
            insert = f"INSERT INTO spooled VALUES ({', '.join('?' * len(names))})"
            watch = threading.Timer(timeout_seconds, self._stopped.set)
            watch.daemon = True
            watch.start()
            try:
                for rows in result.partitions():
                    if self._stopped.is_set():
                        raise SourceUnavailable(f"{self._remote.name} did not answer within {timeout_seconds:g} s")
                    local.executemany(insert, ([_stored(value) for value in row] for row in rows))
                local.commit()
            finally:
                watch.cancel()
                local.close()
            return families

    def _families(self, connection: Any) -> dict[str, ColumnType]:
        parts = self._remote.parts
        schema = parts[0] if len(parts) == 2 else None
        return {
            found["name"]: ColumnType(_family(found["type"]), str(found["type"]))
            for found in inspect(connection).get_columns(parts[-1], schema)
        }

    def _select(self, names: list[str]) -> Any:
        if self._remote.query is not None:
            return text(_escaped(self._remote.query))
        parts = self._remote.parts
        columns: list[ColumnElement[Any]] = [column(name) for name in names]
        query = select(*columns).select_from(
            table(parts[-1], *[column(name) for name in names], schema=parts[0] if len(parts) == 2 else None)
        )
        return query.where(text(f"({_escaped(self._remote.where)})")) if self._remote.where else query


def _family(type_: Any) -> Family:
    if isinstance(type_, types.DateTime) and type_.timezone:
        return "timestamptz"
    for known, family in _FAMILIES:
        if isinstance(type_, known):
            return family
    return "other"


def _stored(value: Any) -> Any:
    """Return a value as SQLite keeps it without loss; of an integer beyond 64 bits and of NaN that is text."""
    match value:
        case None | bool() | str() | bytes():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if value == value else "NaN"
        case Decimal() | UUID():
            return str(value)
        case datetime():
            return value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case bytearray() | memoryview():
            return bytes(value)
        case _:
            return str(value)


def _escaped(sql: str) -> str:
    """SQLAlchemy takes a colon for a parameter."""
    return sql.replace(":", "\\:")


def _first_line(error: BaseException) -> str:
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__])[0]
