"""The same rows in tables of PostgreSQL, DuckDB and SQLite, and a comparison that reads all of them."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import duckdb
import psycopg
from psycopg import sql

from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison
from incident_pipelines.stages.reconciliation.compare import TableRef

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Type:
    """A type as each engine has it, and how SQLite is given its values."""

    postgres: str
    duckdb: str
    sqlite: str
    to_sqlite: Callable[[Any], Any] = lambda value: value


TYPES = {
    "bigint": Type("bigint", "BIGINT", "BIGINT"),
    "number": Type("numeric", "DECIMAL(38,6)", "DECIMAL(38,6)", str),
    "float": Type("double precision", "DOUBLE", "REAL"),
    "boolean": Type("boolean", "BOOLEAN", "BOOLEAN", int),
    "instant": Type("timestamptz", "TIMESTAMPTZ", "TEXT", lambda value: value.isoformat()),
    "naive": Type("timestamp", "TIMESTAMP", "TIMESTAMP", lambda value: value.isoformat(" ")),
    "day": Type("date", "DATE", "DATE", lambda value: value.isoformat()),
    "uuid": Type("uuid", "UUID", "TEXT", lambda value: str(value).upper()),
    "text": Type("text", "VARCHAR", "TEXT"),
    "bytes": Type("bytea", "BLOB", "BLOB"),
}


class Engine(Protocol):
    """Makes tables."""

    name: str

    def table(self, name: str, columns: dict[str, str], rows: Sequence[Row], primary_key: str = "") -> TableRef:
        """Make a table anew: column → type of `TYPES`."""
        ...


class Postgres:
    """Tables in one database."""

    name = "postgres"

    def __init__(self, url: str) -> None:
        self._url = url
        self.connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def table(self, name: str, columns: dict[str, str], rows: Sequence[Row], primary_key: str = "") -> TableRef:
        with self.connection.transaction():
            self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
            declared = [
                sql.SQL("{} " + TYPES[type_].postgres).format(sql.Identifier(column))  # pyright: ignore
                for column, type_ in columns.items()
            ]
            if primary_key:
                declared.append(sql.SQL("PRIMARY KEY ({})").format(sql.Identifier(primary_key)))
            table = sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(declared))
            self.connection.execute(table)
            copy = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))
            with self.connection.cursor() as cursor, cursor.copy(copy) as target:
                for row in rows:
                    target.write_row(row)
        return TableRef(self._url, name)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


_ROWS_AT_ONCE = 500


class Duckdb:
    """Each table in a file of its own."""

    name = "duckdb"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def table(self, name: str, columns: dict[str, str], rows: Sequence[Row], primary_key: str = "") -> TableRef:
        path = self._folder / f"{name}.duckdb"
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            declared = [f'"{column}" {TYPES[type_].duckdb}' for column, type_ in columns.items()]
            if primary_key:
                declared.append(f'PRIMARY KEY ("{primary_key}")')
            connection.execute(f'CREATE TABLE "{name}" ({", ".join(declared)})')
            # Many rows in a statement: one by one takes DuckDB a millisecond each.
            one = f"({', '.join('?' * len(columns))})"
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[first : first + _ROWS_AT_ONCE]
                values = [value for row in some for value in row]
                connection.execute(f'INSERT INTO "{name}" VALUES {", ".join([one] * len(some))}', values)
        return TableRef(f"duckdb:///{path}", name)


class Sqlite:
    """Each table in a file of its own; UUIDs are upper-case texts there, instants ISO texts, booleans 0 and 1."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def table(self, name: str, columns: dict[str, str], rows: Sequence[Row], primary_key: str = "") -> TableRef:
        path = self._folder / f"{name}.sqlite"
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        declared = [
            f'"{column}" INTEGER PRIMARY KEY' if column == primary_key else f'"{column}" {TYPES[type_].sqlite}'
            for column, type_ in columns.items()
        ]
        connection.execute(f'CREATE TABLE "{name}" ({", ".join(declared)})')
        converters = [TYPES[type_].to_sqlite for type_ in columns.values()]
        connection.executemany(
            f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(columns))})',
            [
                tuple(None if v is None else convert(v) for convert, v in zip(converters, row, strict=True))
                for row in rows
            ],
        )
        connection.commit()
        connection.close()
        return TableRef(f"sqlite:///{path}", name)


def comparison(key: Sequence[str], columns: Sequence[str], **options: ComparedColumn) -> Comparison:
    """Return a comparison of columns that are named alike on both sides; options replace columns."""

    def column(name: str) -> ComparedColumn:
        return options.get(name) or ComparedColumn(name, name, name)

    return Comparison(tuple(map(column, key)), tuple(map(column, columns)))


Found = tuple[str, tuple[Any, ...], tuple[tuple[str, Any, Any], ...]]
"""Kind, key, and of each differing column its name and both values."""


def naive(
    source: Sequence[Row],
    target: Sequence[Row],
    key: int,
    names: Sequence[str],
    equal: Callable[[str, Any, Any], bool] = lambda _, left, right: same(left, right),
) -> Counter[tuple[str, tuple[Any, ...]]]:
    """Compare rows pair by pair.

    Args:
        key: how many columns at the front are the key.
        equal: whether two values of a column are equal.

    Returns:
        How often each (kind, key) is found, and with it each (column name, key) that is mismatched in rows that are
        single on both sides.
    """
    found: Counter[tuple[str, tuple[Any, ...]]] = Counter()
    by_key: defaultdict[tuple[Any, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((source, target)):
        for row in rows:
            by_key[tuple(map(form, row[:key]))][side].append(row[key:])
    for at, (left_rows, right_rows) in by_key.items():
        single = len(left_rows) == len(right_rows) == 1
        waiting = list(right_rows)
        left: list[Row] = []
        for row in left_rows:
            match = next((w for w in waiting if all(map(equal, names, row, w))), None)
            if match is None:
                left.append(row)
            else:
                waiting.remove(match)
        pairs = min(len(left), len(waiting))
        found["mismatched", at] += pairs
        found["missing", at] += len(left) - pairs
        found["unexpected", at] += len(waiting) - pairs
        if single and pairs:
            found.update(
                (name, at)
                for name, one, other in zip(names, left[0], waiting[0], strict=True)
                if not equal(name, one, other)
            )
    return +found


def form(value: Any) -> Any:
    """Return what a value is compared by: the type first, so that 1 is not true, and zeros at the end are nothing."""
    match value:
        case None:
            return ("null",)
        case bool():
            return "boolean", value
        case int() | float() | Decimal():
            if value != value:
                return "number", "nan"
            return "number", Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        case datetime():
            return "instant", (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        case str() if len(value) == 36:
            return "UUID", UUID(value)  # SQLite has UUIDs as texts only
        case date() | UUID() | str() | bytes():
            return type(value).__name__, value
        case _:
            raise AssertionError(value)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal."""
    return form(left) == form(right)
