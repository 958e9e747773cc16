"""Streams messages that a database keeps: ids as text, times as milliseconds, keys and values as bytes.

PostgreSQL converts them itself, and its driver hands them over without an object for each: half the time of a replay
was spent on that.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, make_url

from incident_pipelines.adapters.databases.reviewed_sql import FETCHED_ROWS, bind, read_snapshot, stream_rows
from incident_pipelines.core.recovery.declaration import EXTRACT_COLUMNS

Original = tuple[str, int | None, bytes | None, bytes | None]
"""(event_id, event_time in milliseconds since 1970-01-01 UTC, key, value)"""

_TIMES = {psycopg.postgres.types[name].oid for name in ("timestamptz", "timestamp")}
_BYTES = psycopg.postgres.types["bytea"].oid


def stream_originals(url: str, source: str, statement: str, values: Mapping[str, Any]) -> Iterator[Original]:
    """Yield the messages that a SELECT with the columns of `EXTRACT_COLUMNS` gives, in its order, with bounded memory.

    Args:
        url: SQLAlchemy URL.
        source: name of the source, for messages.
        values: only those are given that the statement has binds for.

    Raises:
        SourceUnavailable: the source does not answer, not in time, or not to this statement.
    """
    if make_url(url).drivername in ("postgresql", "postgresql+psycopg"):
        with read_snapshot(url, source) as connection:
            yield from _postgres(connection, statement, values)
        return
    for event_id, event_time, key, value in stream_rows(url, source, statement, values, EXTRACT_COLUMNS):
        yield str(event_id), milliseconds(event_time), as_bytes(key), as_bytes(value)


def milliseconds(instant: Any) -> int | None:
    """Return milliseconds since 1970-01-01 UTC; None for what is no instant."""
    if not isinstance(instant, datetime):
        return None
    aware = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    return int(aware.timestamp() * 1000)


def as_bytes(value: Any) -> bytes | None:
    """Return a column's value as a message has it: bytes as they are, documents as JSON, anything else as its text."""
    match value:
        case None | bytes():
            return value
        case bytearray() | memoryview():
            return bytes(value)
        case dict() | list():
            return msgspec.json.encode(value)
        case _:
            return str(value).encode()


def _postgres(connection: Connection, statement: str, values: Mapping[str, Any]) -> Iterator[Original]:
    bound, used = bind(statement, values)
    compiled = bound.compile(dialect=connection.dialect)
    originals = SQL("FROM (\n{statement}\n) AS originals").format(statement=SQL(cast("Any", str(compiled))))
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with driver.cursor() as cursor:
        names = SQL(", ").join(map(Identifier, EXTRACT_COLUMNS))
        cursor.execute(SQL("SELECT {names} {originals} LIMIT 0").format(names=names, originals=originals), used)
        types = [column.type_code for column in cursor.description or ()]
    wanted = SQL(", ").join(map(_converted, EXTRACT_COLUMNS, types))
    with driver.cursor("originals", binary=True) as cursor:
        cursor.execute(SQL("SELECT {wanted} {originals}").format(wanted=wanted, originals=originals), used)
        while page := cursor.fetchmany(FETCHED_ROWS):
            yield from page


def _converted(name: str, kind: int) -> Any:
    column = Identifier(name)
    match name:
        case "event_id":
            return SQL("CAST({} AS text)").format(column)
        case "event_time" if kind in _TIMES:
            return SQL("CAST(floor(extract(epoch FROM {}) * 1000) AS bigint)").format(column)
        case "event_time":
            return SQL("CAST(NULL AS bigint)")
        case _ if kind == _BYTES:
            return column
        case _:
            return SQL("convert_to(CAST({} AS text), 'UTF8')").format(column)
