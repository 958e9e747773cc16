"""A side of a comparison in SQLite, or in a temporary SQLite file that the rows of another engine were put in.

SQLite has no hash to speak of. Rows are streamed once and digested here, which is faster than a function that SQLite
calls for each row: the values cross over anyway, and the sums stay in one place.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import md5
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import make_url

from incident_pipelines.adapters.databases.comparison.embedded import EmbeddedTable
from incident_pipelines.adapters.databases.comparison.sql_table import with_condition
from incident_pipelines.adapters.databases.comparison.sql_texts import (
    EXACT_INSTANTS,
    NO_INSTANT,
    SEPARATOR,
    in_text_order,
    is_free,
)
from incident_pipelines.adapters.databases.comparison.table import (
    ColumnType,
    PairedColumn,
    TableRef,
    View,
    cell_limit,
    cell_width,
    comparable,
)
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison
from incident_pipelines.core.reconciliation.digests import NULL_BUCKET, Buckets, Digest, RangeBuckets, Selection
from incident_pipelines.core.reconciliation.matching import RawRow
from incident_pipelines.core.reconciliation.values import Family, Value, canonicaliser

# A declared type holds one of these words, in this order of precedence.
_WORDS: tuple[tuple[str, Family], ...] = (
    ("BOOL", "boolean"),
    ("INT", "integer"),
    ("DATETIME", "timestamp"),
    ("TIMESTAMP", "timestamp"),
    ("DATE", "date"),
    ("UUID", "uuid"),
    ("JSON", "json"),
    ("CHAR", "text"),
    ("CLOB", "text"),
    ("TEXT", "text"),
    ("BLOB", "bytes"),
    ("REAL", "float"),
    ("FLOA", "float"),
    ("DOUB", "float"),
    ("DEC", "decimal"),
    ("NUM", "decimal"),
)
_FIRST, _LAST = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in EXACT_INSTANTS)
_ASCII_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})


class SqliteTable(EmbeddedTable):
    """A table or query of an SQLite file, opened for reading only.

    Args:
        families: types of columns that are known better than the file says.
        name: what messages call it, if not by the file.

    Raises:
        SourceUnavailable: the file cannot be opened.
        InvalidComparison: the table is not there.
    """

    hashes: str | None = None
    typed = False

    def __init__(
        self,
        ref: TableRef,
        statement_timeout_seconds: float,
        families: Mapping[str, ColumnType] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or ref.name, statement_timeout_seconds, (sqlite3.Error,))
        self.ref = ref
        path = make_url(ref.url).database
        if not path or not Path(path).is_file():
            raise SourceUnavailable(f"{self._name} cannot be opened: there is no such file")
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._connection.create_function("compare_instant", 1, _instant, deterministic=True)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("BEGIN")
            # The snapshot is taken by the first read.
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise SourceUnavailable(f"{self._name} cannot be opened: {error}") from error
        try:
            self._source = f"({ref.query})" if ref.query is not None else self._table()
            self._rowid: str | None = None
            self.primary_key: tuple[str, ...] = ()
            self.columns: Mapping[str, ColumnType] = self._read_columns() | dict(families or {})
            self._check_filters()
        except BaseException:
            self._connection.close()
            raise

    def look(self, view: View) -> None:
        self._view = view
        self._key_texts = _texts(view.key, view.side)
        self._row_texts = _texts((*view.key, *view.columns), view.side)
        self._connection.create_function("compare_key", len(view.key), self._key_hash, deterministic=True)

    def digests(self, buckets: Buckets) -> dict[int, Digest]:
        found: dict[int, list[int]] = {}
        where, values = self._where()
        keys = len(self._view.key)
        for row in self._stream(f"SELECT {self._hashed()} FROM {self._source} AS compared{where}", values):
            bucket = self._bucket_of(buckets, row[:keys])
            digest = found.setdefault(bucket, [0, 0])
            digest[0] += 1
            digest[1] += self._row_hash(row)
        return {bucket: (rows, total) for bucket, (rows, total) in found.items()}

    def finer_digests(self, buckets: Buckets, selection: Selection) -> Iterator[tuple[int, int, int]]:
        source, values = self._selected(selection)
        query = f"SELECT {self._bucket(buckets)}, {self._hashed()} FROM {source} ORDER BY 1"
        for bucket, rows in groupby(self._stream(query, values), key=lambda row: row[0]):
            count = total = 0
            for row in rows:
                count += 1
                total += self._row_hash(row[1:])
            yield bucket, count, total

    def rows_of_keys(self, keys: Sequence[tuple[Value, ...]]) -> Iterator[RawRow]:
        """All rows are read unless the key is the row id: a value may be stored in more than one way."""
        where, values = self._where(windowed=False)
        if self._rowid is not None and [column.name for column in self._view.key] == [self._rowid]:
            sought = [key[0] for key in keys if isinstance(key[0], int)]
            where = with_condition(where, f"{self._quoted(self._rowid)} IN (SELECT value FROM json_each(:sought))")
            values = values | {"sought": json.dumps(sought)}
        yield from self._stream(self._read_all(where), values)

    def _has_ranges(self, key: PairedColumn) -> bool:
        """Only a row id is sure to hold integers, whatever was put in."""
        return self._rowid == key.name

    def _selected(self, selection: Selection) -> tuple[str, dict[str, Any]]:
        where, values = self._where()
        condition = f"{self._bucket(selection.of)} IN (SELECT value FROM json_each(:chosen))"
        return self._restricted(where, condition), values | {"chosen": json.dumps(list(selection.buckets))}

    def _where(self, windowed: bool = True) -> tuple[str, dict[str, Any]]:
        conditions: list[str] = []
        values: dict[str, Any] = {}
        if self.ref.where:
            conditions.append(f"({self.ref.where}\n)")
        for number, one in enumerate(self.ref.filters):
            names = [f"f{number}_{place}" for place in range(len(one.values))]
            inside = f"{self._quoted(one.column)} IN ({', '.join(f':{name}' for name in names)})"
            conditions.append(inside if one.operator == "in" else f"({inside}) IS NOT TRUE")
            values |= dict(zip(names, map(_bound, one.values), strict=True))
        window, time = self._view.window, self._view.time
        if windowed and window is not None and time is not None:
            name = self._quoted(time.name)
            # Texts in whatever form begin with their day, which an index finds; a zone moves it by one at most.
            conditions.append(f"({name} >= :first_day AND {name} < :last_day OR typeof({name}) <> 'text')")
            conditions.append(f"compare_instant({name}) >= :start AND compare_instant({name}) < :end")
            values |= {
                "first_day": (window.start - timedelta(days=1)).date().isoformat(),
                "last_day": (window.end + timedelta(days=2)).date().isoformat(),
                "start": _microseconds(window.start),
                "end": _microseconds(window.end),
            }
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), values

    def _hashed(self) -> str:
        return ", ".join(self._quoted(column.name) for column in (*self._view.key, *self._view.columns))

    def _read_sql(self, column: PairedColumn) -> str:
        return "NULL" if column.own is None else f"compared.{self._quoted(column.name)}"

    def _bucket(self, buckets: Buckets) -> str:
        if isinstance(buckets, RangeBuckets):
            return f"({self._quoted(self._view.key[0].name)} >> {buckets.shift})"
        return f"(compare_key({', '.join(self._quoted(column.name) for column in self._view.key)}) & {buckets.mask})"

    def _bucket_of(self, buckets: Buckets, key: tuple[Any, ...]) -> int:
        if isinstance(buckets, RangeBuckets):
            return NULL_BUCKET if key[0] is None else key[0] >> buckets.shift
        return self._key_hash(*key) & buckets.mask

    def _key_hash(self, *key: Any) -> int:
        return _hash(SEPARATOR.join([text(key[place]) for place, text in self._key_texts]))

    def _row_hash(self, row: tuple[Any, ...]) -> int:
        return _hash(SEPARATOR.join([text(row[place]) for place, text in self._row_texts]))

    def _table(self) -> str:
        parts = self.ref.parts
        schema = parts[0] if len(parts) == 2 else "main"
        if schema != "main":
            raise InvalidComparison(f"{self._name} does not exist: SQLite has no schemas; name the table alone")
        known = [name for (name,) in self._all("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')", {})]
        if parts[-1].lower() not in (name.lower() for name in known):
            raise InvalidComparison(f"{self._name} does not exist; tables there are {', '.join(known) or 'none'}")
        return self._quoted(parts[-1])

    def _read_columns(self) -> dict[str, ColumnType]:
        if self.ref.query is not None:
            with self._asking():
                described = self._connection.execute(f"SELECT * FROM {self._source} LIMIT 0").description
            return {name: ColumnType("other", "") for name, *_ in described}
        info = self._all("SELECT name, type, pk FROM pragma_table_info(:table)", {"table": self.ref.parts[-1]})
        self.primary_key = tuple(name for name, _, place in sorted(info, key=lambda row: row[2]) if place)
        if len(self.primary_key) == 1 and self._is_rowid(info):
            self._rowid = self.primary_key[0]
        return {name: ColumnType(_family(type_), type_) for name, type_, _ in info}

    def _is_rowid(self, info: list[tuple[Any, ...]]) -> bool:
        """INTEGER PRIMARY KEY is the row id, unless the table has none, or `DESC` was said: then an index serves it."""
        indexes = self._all("SELECT origin FROM pragma_index_list(:table)", {"table": self.ref.parts[-1]})
        declared = next(type_ for name, type_, _ in info if name == self.primary_key[0])
        return declared.upper() == "INTEGER" and ("pk",) not in indexes


def _hash(text: str) -> int:
    return int(md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[-15:], 16)


def _texts(columns: Sequence[PairedColumn], side: str) -> "list[tuple[int, _ColumnText]]":
    """Return place and text of the columns, as they follow each other in a row's text."""
    ordered = in_text_order(columns)
    return [(columns.index(column), _ColumnText(column, side, column is ordered[-1])) for column in ordered]


class _ColumnText:
    """A column's canonical text, as the SQL of the other engines writes it."""

    def __init__(self, column: PairedColumn, side: str, last: bool) -> None:
        self._last = last
        self._form = canonicaliser(column.kind)
        self._free = is_free(column)
        self._mark = "" if comparable(column) else f"{side}:"
        self._lower = column.column.ignore_case
        self._width, self._limit = cell_width(column), cell_limit(column)
        self._is_instant = column.kind == "timestamp"
        self._is_float = column.own is not None and column.own.family == "float"

    def __call__(self, value: Any) -> str:
        if value is None:
            return ""
        text = self._mark + self._written(self._form(value))
        return text if not self._free else f":{text}" if self._last else f"{len(text)}:{text}"

    def _written(self, value: Value) -> str:
        if self._width is not None and (number := _double(value)) is not None and abs(number) < self._limit:
            return f"c{math.floor(number / self._width)}"
        match value:
            case bool():
                return "1" if value else "0"
            case Decimal():
                # A database writes a float with an exponent where that is shorter.
                return repr(float(value)) if self._is_float else format(value, "f")
            case datetime():
                return _instant_text(value)
            case bytes():
                return f"x{value.hex()}"
            case str() if self._is_instant:
                return NO_INSTANT + value
            case str() if self._lower:
                return value.translate(_ASCII_LOWER)
            case _:
                return str(value)


def _double(value: Value) -> float | None:
    match value:
        case int() | Decimal():
            try:
                return float(value)
            except OverflowError:
                return None
        case datetime():
            return _microseconds(value) / 1_000_000
        case _:
            return None


def _instant_text(instant: datetime) -> str:
    """Seconds since 1970, as PostgreSQL writes them."""
    if not _FIRST < instant < _LAST:
        return f"{NO_INSTANT}{instant.isoformat(' ')}"
    return repr(_microseconds(instant) / 1_000_000).removesuffix(".0")


def _instant(value: Any) -> int | None:
    """SQL function: microseconds since 1970 of an instant; NULL for what is none."""
    found = canonicaliser("timestamp")(value)
    return _microseconds(found) if isinstance(found, datetime) else None


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _bound(value: Value) -> Any:
    match value:
        case Decimal():
            return float(value)
        case datetime() | date():
            return value.isoformat()
        case None | bool() | int() | str() | bytes():
            return value
        case _:
            return str(value)


def _family(declared: str) -> Family:
    words = declared.upper()
    for word, family in _WORDS:
        if word in words and words != "INTERVAL":
            return family
    return "other"
