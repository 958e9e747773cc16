"""A side of a comparison in PostgreSQL."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from incident_pipelines.adapters.databases.comparison.postgres_hashes import MOST_FLAGS, RowHash
from incident_pipelines.adapters.databases.comparison.postgres_keys import MANY, NONE, lookup
from incident_pipelines.adapters.databases.comparison.postgres_texts import canonical_text, quoted
from incident_pipelines.adapters.databases.comparison.sql_table import HashingTable
from incident_pipelines.adapters.databases.comparison.sql_texts import row_text
from incident_pipelines.adapters.databases.comparison.table import (
    CHUNK_ROWS,
    ColumnType,
    PairedColumn,
    TableRef,
    View,
    key_text,
)
from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison
from incident_pipelines.core.reconciliation.digests import (
    NULL_BUCKET,
    Buckets,
    RangeBuckets,
    Selection,
    key_ranges,
)
from incident_pipelines.core.reconciliation.matching import RawRow
from incident_pipelines.core.reconciliation.values import Family, Value

_QUERIES = Path(__file__).parent / "queries"
_APPLICATION_NAME = "incident-pipelines compare"
_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 15  # after the server's own time-out, until its connection is cut
_OLDEST_NATIVE = 140_000  # date_bin
_HEXADECIMAL_INTEGERS = 160_000
_LARGEST_SHARE_BY_RANGES = 0.2
# Keys of one bucket differ in this many bits at most; higher ones of a seed are free for flags.
_LARGEST_SHIFT = 60 - MOST_FLAGS

_FAMILIES: dict[str, Family] = {
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "numeric": "decimal",
    "real": "float",
    "double precision": "float",
    "boolean": "boolean",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "date": "date",
    "uuid": "uuid",
    "text": "text",
    "character varying": "text",
    "character": "text",
    "bpchar": "text",
    "name": "text",
    "bytea": "bytes",
    "json": "json",
    "jsonb": "json",
}
# Read as text: the driver knows no infinity, no year 10000, and would widen a real to other decimals.
_READ_AS_TEXT = frozenset({"timestamp", "timestamptz", "date", "json", "other"})


class PostgresTable(HashingTable):
    """A table or query of a PostgreSQL database.

    Args:
        statement_timeout_seconds: longest time a statement may take.

    Raises:
        SourceUnavailable: the server does not answer.
        InvalidComparison: the table is not there.
    """

    typed = True

    def __init__(self, ref: TableRef, statement_timeout_seconds: float) -> None:
        self.ref = ref
        self._timeout_seconds = statement_timeout_seconds
        self._cursors = 0
        self._timed_out = threading.Event()
        with self._asking():
            self._connection = psycopg.connect(
                driver_url(ref.url),
                application_name=_APPLICATION_NAME,
                connect_timeout=_CONNECT_SECONDS,
                row_factory=tuple_row,
            )
        try:
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
            settings = {
                "statement_timeout": f"{round(statement_timeout_seconds * 1000)}",
                "idle_in_transaction_session_timeout": "0",
                "timezone": "UTC",
                "datestyle": "ISO",
                "bytea_output": "hex",
                "extra_float_digits": "1",
                "cursor_tuple_fraction": "1",
                "jit": "off",
                # Finer digests of millions of rows would spill with the default.
                "work_mem": "32MB",
            }
            for name, value in settings.items():
                self._all("SELECT set_config(%(name)s, %(value)s, true)", {"name": name, "value": value})
            self._relation = self._find_relation()
            self._source = f"({ref.query})" if ref.query is not None else ".".join(map(quoted, ref.parts))
            self.columns: Mapping[str, ColumnType] = self._read_columns()
            self._check_filters()
        except BaseException:
            self._connection.close()
            raise

    @cached_property
    def _indexes(self) -> list[tuple[bool, list[str]]]:
        if self._relation is None:
            return []
        return [(primary, names) for primary, names in self._fixed("postgres_indexes", {"relation": self._relation})]

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((tuple(names) for primary, names in self._indexes if primary), ())

    @property
    def hashes(self) -> str | None:
        """Hashes are of bytes: texts in another encoding are hashed otherwise."""
        info = self._connection.info
        if info.server_version < _OLDEST_NATIVE:
            return None
        return f"postgresql {info.parameter_status('server_encoding')}"

    def look(self, view: View) -> None:
        self._view = view
        text = partial(canonical_text, side=view.side)
        if view.native:
            hashes = RowHash(quoted, text)
            self._key_hash = hashes.sql(view.key, "7")
            # Of an integer key its range is the bucket, and the key itself the seed.
            self._row_hash = hashes.sql(view.columns, self._key_hash)
            key = f"{quoted(view.key[0].name)}::int8"
            seed = f"coalesce({key}, 0)" if view.key[0].own is None or view.key[0].own.nullable else key
            self._row_hash_in_range = hashes.sql(view.columns, seed, _LARGEST_SHIFT)
        else:
            self._key_hash = self._md5(row_text(view.key, text))
            self._row_hash = self._md5(row_text((*view.key, *view.columns), text))
            self._row_hash_in_range = self._row_hash

    def estimated_rows(self) -> int:
        where, values = self._where()
        ((plan,),) = self._all(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {self._source} AS compared{where}", values)
        return int(plan[0]["Plan"]["Plan Rows"])

    def rows_of_keys(self, keys: Sequence[tuple[Value, ...]]) -> Iterator[RawRow]:
        where, values = self._where(windowed=False)
        sought = self._sought(keys)
        if sought is None:
            yield from self._stream(self._read_all(where), values)
            return
        names = [f"k{number}" for number in range(len(self._view.key))]
        types = [column.own.type for column in self._view.key if column.own is not None]
        arrays = ", ".join(f"%({name})s::text[]::{type_}[]" for name, type_ in zip(names, types, strict=True))
        for found, operator in (
            ([key for key in sought if None not in key], "="),
            ([key for key in sought if None in key], "IS NOT DISTINCT FROM"),
        ):
            if not found:
                continue
            on = " AND ".join(
                f"compared.{quoted(column.name)} {operator} sought.{name}"
                for column, name in zip(self._view.key, names, strict=True)
            )
            bound = {name: [key[number] for key in found] for number, name in enumerate(names)}
            join = f" JOIN (SELECT DISTINCT * FROM unnest({arrays}) AS s({', '.join(names)})) AS sought ON {on}"
            yield from self._stream(self._read_all(join + where), values | bound)

    def cancel(self) -> None:
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=2)

    def close(self) -> None:
        self._connection.close()

    def _has_ranges(self, key: PairedColumn) -> bool:
        is_integer = key.own is not None and key.own.family == "integer"
        return is_integer and any(names[0] == key.name for _, names in self._indexes)

    def _quoted(self, name: str) -> str:
        return quoted(name)

    def _selected(self, selection: Selection) -> tuple[str, dict[str, Any]]:
        where, values = self._where()
        chosen = list(selection.buckets)
        if isinstance(selection.of, RangeBuckets) and selection.share < _LARGEST_SHARE_BY_RANGES:
            key = quoted(self._view.key[0].name)
            ranges = key_ranges(chosen, selection.of.shift)
            values |= {"first": [first for first, _ in ranges], "last": [last for _, last in ranges]}
            # OFFSET 0 keeps the planner from turning this round: it does not know how few rows a range has.
            parts = [
                f"SELECT compared.* FROM unnest(%(first)s::int8[], %(last)s::int8[]) AS r(first, last), LATERAL "
                f"(SELECT * FROM {self._source} AS t WHERE t.{key} BETWEEN r.first AND r.last OFFSET 0) AS compared"
            ]
            if NULL_BUCKET in chosen:
                parts.append(f"SELECT * FROM {self._source} AS t WHERE t.{key} IS NULL OR t.{key} = {NULL_BUCKET}")
            return f"({' UNION ALL '.join(parts)}) AS compared", values
        condition = f"{self._bucket(selection.of)} = ANY (%(chosen)s::int8[])"
        return self._restricted(where, condition), values | {"chosen": chosen}

    def _where(self, windowed: bool = True) -> tuple[str, dict[str, Any]]:
        conditions: list[str] = []
        values: dict[str, Any] = {}
        if self.ref.where:
            conditions.append("(" + self.ref.where.replace("%", "%%") + "\n)")
        for number, one in enumerate(self.ref.filters):
            name, type_ = quoted(one.column), self.columns[one.column].type
            inside = f"{name} = ANY (%(f{number})s::text[]::{type_}[])"
            conditions.append(inside if one.operator == "in" else f"({inside}) IS NOT TRUE")
            values[f"f{number}"] = [key_text(value) for value in one.values]
        window, time = self._view.window, self._view.time
        if windowed and window is not None and time is not None and time.own is not None:
            cast_to = "timestamptz" if time.own.family == "timestamptz" else "timestamptz AT TIME ZONE 'UTC'"
            name = quoted(time.name) if time.own.family != "text" else f"{quoted(time.name)}::timestamp"
            conditions.append(f"{name} >= %(start)s::{cast_to} AND {name} < %(end)s::{cast_to}")
            values |= {"start": window.start, "end": window.end}
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), values

    def _row_hash_sql(self, buckets: Buckets) -> str:
        in_range = isinstance(buckets, RangeBuckets) and buckets.shift <= _LARGEST_SHIFT
        return self._row_hash_in_range if in_range else self._row_hash

    def _bucket(self, buckets: Buckets) -> str:
        if isinstance(buckets, RangeBuckets):
            key = self._view.key[0]
            bucket = f"{quoted(key.name)}::int8 >> {buckets.shift}"
            nullable = key.own is None or key.own.nullable
            return f"coalesce({bucket}, {NULL_BUCKET})" if nullable else f"({bucket})"
        return f"({self._key_hash} & {buckets.mask})"

    def _read_sql(self, column: PairedColumn) -> str:
        if column.own is None:
            return "NULL"
        name = f"compared.{quoted(column.name)}"
        if column.own.family in _READ_AS_TEXT or column.own.type in ("character", "bpchar", "name"):
            return f"{name}::text"
        return f"{name}::text::float8" if column.own.type == "real" else name

    def _md5(self, text: str) -> str:
        if self._connection.info.parameter_status("server_encoding") != "UTF8":
            text = f"convert_to({text}, 'UTF8')"
        if self._connection.info.server_version >= _HEXADECIMAL_INTEGERS:
            return f"('0x' || right(md5({text}), 15))::int8"
        return f"('x' || right(md5({text}), 15))::bit(60)::int8"

    def _sought(self, keys: Sequence[tuple[Value, ...]]) -> list[tuple[str | None, ...]] | None:
        """Return keys as texts of this side's types; None if a key could be stored in more than one way."""
        found: list[tuple[str | None, ...]] = []
        for key in keys:
            texts = [lookup(column, value) for column, value in zip(self._view.key, key, strict=True)]
            if MANY in texts:
                return None
            if NONE not in texts:
                found.append(tuple(cast(list[str | None], texts)))
        return found

    def _find_relation(self) -> int | None:
        if self.ref.query is not None:
            return None
        parts = self.ref.parts
        ((found,),) = self._all("SELECT to_regclass(%(name)s)::oid::int8", {"name": ".".join(map(quoted, parts))})
        if found is None:
            known = [name for (name,) in self._fixed("postgres_tables", {})]
            close = [name for name in known if name.split(".")[-1] == parts[-1].lower()] or known[:20]
            raise InvalidComparison(
                f"{self.ref.name} does not exist, or may not be seen; tables there are {', '.join(close) or 'none'}"
            )
        return found

    def _read_columns(self) -> dict[str, ColumnType]:
        with self._asking(), self._connection.cursor() as cursor:
            cursor.execute(_sql(f"SELECT * FROM {self._source} AS compared LIMIT 0"))
            described = cursor.description or []
        types = [column.type_code for column in described]
        rows = self._fixed("postgres_columns", {"types": types, "relation": self._relation})
        names = {oid: (type_, kind) for oid, type_, kind, _ in rows}
        never_null = set(rows[0][3]) if rows else set[str]()
        return {
            column.name: ColumnType(
                _FAMILIES.get(names[column.type_code][0], "other"),
                names[column.type_code][0],
                column.name not in never_null,
                bool(column.precision),
            )
            for column in described
        }

    def _fixed(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._all((_QUERIES / f"{name}.sql").read_text(), values)

    def _all(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self._asking(), self._connection.cursor(binary=True) as cursor:
            return cursor.execute(_sql(query), values).fetchall()

    def _stream(self, query: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        self._cursors += 1
        name = f"compare_{self._cursors}"
        with self._asking():
            cursor = self._connection.cursor(name)
            cursor.execute(_sql(query), values, binary=True)
        while True:
            with self._asking():
                rows = cursor.fetchmany(CHUNK_ROWS)
            yield from rows
            if len(rows) < CHUNK_ROWS:
                break
        with self._asking():
            cursor.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say what went wrong; cut a connection whose server has stopped and cannot even say that time is up."""
        watch = threading.Timer(self._timeout_seconds + _SILENCE_SECONDS, self._cut)
        watch.daemon = True
        watch.start()
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            raise SourceUnavailable(
                f"{self.ref.name} did not answer within {self._timeout_seconds:g} s ({_first_line(error)})"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            silent = "it fell silent" if self._timed_out.is_set() else _first_line(error)
            raise SourceUnavailable(f"{self.ref.name} cannot be reached: {silent}") from error
        except psycopg.Error as error:
            raise InvalidComparison(f"{self.ref.name} cannot be read: {_first_line(error)}") from error
        finally:
            watch.cancel()

    def _cut(self) -> None:
        self._timed_out.set()
        if not hasattr(self, "_connection"):
            return  # connecting has a time-out of its own
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)


def _sql(text: str) -> sql.SQL:
    return sql.SQL(cast(LiteralString, text))


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
