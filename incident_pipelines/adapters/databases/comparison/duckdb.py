"""A side of a comparison in DuckDB."""

import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from incident_pipelines.adapters.databases.comparison.embedded import EmbeddedTable
from incident_pipelines.adapters.databases.comparison.sql_table import HashingTable
from incident_pipelines.adapters.databases.comparison.sql_texts import (
    EXACT_INSTANTS,
    NO_INSTANT,
    after,
    flag_text,
    marked,
    row_text,
)
from incident_pipelines.adapters.databases.comparison.table import (
    ColumnType,
    PairedColumn,
    TableRef,
    View,
    cell_limit,
    cell_width,
    comparable,
    key_text,
)
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import InvalidComparison
from incident_pipelines.core.reconciliation.digests import NULL_BUCKET, Buckets, RangeBuckets, Selection
from incident_pipelines.core.reconciliation.matching import RawRow
from incident_pipelines.core.reconciliation.values import Family, Value

_FAMILIES: dict[str, Family] = {
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "UTINYINT": "integer",
    "USMALLINT": "integer",
    "UINTEGER": "integer",
    # Beyond 64 bits, so they make no ranges.
    "UBIGINT": "decimal",
    "HUGEINT": "decimal",
    "UHUGEINT": "decimal",
    "DECIMAL": "decimal",
    "FLOAT": "float",
    "DOUBLE": "float",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "DATE": "date",
    "UUID": "uuid",
    "VARCHAR": "text",
    "BLOB": "bytes",
    "JSON": "json",
}
_READ_AS_TEXT = frozenset({"timestamp", "timestamptz", "date", "json", "other"})


class DuckdbTable(EmbeddedTable, HashingTable):
    """A table or query of a DuckDB file, opened for reading only.

    Raises:
        SourceUnavailable: the file cannot be opened.
        InvalidComparison: duckdb is not installed, or the table is not there.
    """

    hashes: str | None = None
    typed = True

    def __init__(self, ref: TableRef, statement_timeout_seconds: float) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise InvalidComparison(f"{ref.name} needs DuckDB: pip install duckdb") from error
        super().__init__(ref.name, statement_timeout_seconds, (duckdb.Error,))
        self.ref = ref
        path = make_url(ref.url).database
        if not path or not Path(path).is_file():
            raise SourceUnavailable(f"{ref.name} cannot be opened: there is no such file")
        try:
            self._connection = duckdb.connect(path, read_only=True)
        except duckdb.Error as error:
            raise SourceUnavailable(f"{ref.name} cannot be opened: {str(error).splitlines()[0]}") from error
        try:
            self._run("SET TimeZone = 'UTC'")
            # A condition that a person wrote must not read or write files.
            self._run("SET enable_external_access = false")
            self._run("BEGIN TRANSACTION READ ONLY")
            self._source = f"({ref.query})" if ref.query is not None else self._table()
            self.columns: Mapping[str, ColumnType] = self._read_columns()
            self._check_filters()
        except BaseException:
            self._connection.close()
            raise

    @property
    def primary_key(self) -> tuple[str, ...]:
        if self.ref.query is not None:
            return ()
        parts = self.ref.parts
        schema = parts[0] if len(parts) == 2 else "main"
        found = self._all(
            "SELECT constraint_column_names FROM duckdb_constraints() "
            "WHERE constraint_type = 'PRIMARY KEY' AND database_name = current_database() "
            "AND lower(table_name) = lower($t) AND lower(schema_name) = lower($s)",
            {"t": parts[-1], "s": schema},
        )
        return tuple(found[0][0]) if found else ()

    def look(self, view: View) -> None:
        self._view = view
        self._key_hash = _md5(row_text(view.key, self._text))
        self._row_hash = _md5(row_text((*view.key, *view.columns), self._text))

    def rows_of_keys(self, keys: Sequence[tuple[Value, ...]]) -> Iterator[RawRow]:
        """All rows are read: DuckDB reads by columns and blocks, not by keys."""
        where, values = self._where(windowed=False)
        yield from self._stream(self._read_all(where), values)

    def _has_ranges(self, key: PairedColumn) -> bool:
        return key.own is not None and key.own.family == "integer"

    def _selected(self, selection: Selection) -> tuple[str, dict[str, Any]]:
        where, values = self._where()
        condition = f"{self._bucket(selection.of)} IN (SELECT unnest($chosen::BIGINT[]))"
        return self._restricted(where, condition), values | {"chosen": list(selection.buckets)}

    def _where(self, windowed: bool = True) -> tuple[str, dict[str, Any]]:
        conditions: list[str] = []
        values: dict[str, Any] = {}
        if self.ref.where:
            conditions.append(f"({self.ref.where}\n)")
        for number, one in enumerate(self.ref.filters):
            name, type_ = self._quoted(one.column), self.columns[one.column].type
            inside = f"list_contains($f{number}::VARCHAR[]::{type_}[], {name})"
            conditions.append(inside if one.operator == "in" else f"({inside}) IS NOT TRUE")
            values[f"f{number}"] = [key_text(value) for value in one.values]
        window, time = self._view.window, self._view.time
        if windowed and window is not None and time is not None and time.own is not None:
            cast_to = "TIMESTAMPTZ" if time.own.family == "timestamptz" else "TIMESTAMP"
            name = f"{self._quoted(time.name)}::{cast_to}"
            conditions.append(f"{name} >= $start::{cast_to} AND {name} < $end::{cast_to}")
            # Without a zone a column holds UTC.
            values |= {"start": _instant(window.start, cast_to), "end": _instant(window.end, cast_to)}
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), values

    def _row_hash_sql(self, buckets: Buckets) -> str:
        return self._row_hash

    def _bucket(self, buckets: Buckets) -> str:
        if isinstance(buckets, RangeBuckets):
            key = f"{self._quoted(self._view.key[0].name)}::BIGINT"
            return f"coalesce(({key}) >> {buckets.shift}, {NULL_BUCKET})"
        return f"({self._key_hash} & {buckets.mask})"

    def _read_sql(self, column: PairedColumn) -> str:
        if column.own is None:
            return "NULL"
        name = f"compared.{self._quoted(column.name)}"
        if column.own.type == "FLOAT":
            return f"{name}::VARCHAR::DOUBLE"
        return f"{name}::VARCHAR" if column.own.family in _READ_AS_TEXT else name

    def _text(self, column: PairedColumn, before: str) -> str:
        """Return the SQL of a constant followed by a column's canonical text, NULL for NULL."""
        own = column.own
        assert own is not None
        name = self._quoted(column.name)
        text = f"{name}::VARCHAR"
        width = cell_width(column)
        if width is not None and own.family in ("integer", "decimal", "float", "timestamp", "timestamptz"):
            number = f"epoch({name})" if own.family.startswith("timestamp") else f"{name}::DOUBLE"
            cell = f"'c' || floor({number} / {width!r}::DOUBLE)::HUGEINT::VARCHAR"
            return after(
                before, f"CASE WHEN abs({number}) < {cell_limit(column)!r}::DOUBLE THEN {cell} ELSE {text} END"
            )
        match own.family:
            case "decimal" | "float":
                text = _without_zeros(text)
            case "boolean" if comparable(column):
                return flag_text(before, name)
            case "timestamp" | "timestamptz":
                text = _instant_text(name)
            case "date" if column.kind == "timestamp":
                text = _instant_text(f"{name}::TIMESTAMP")
            case "text" | "other" if column.kind == "timestamp":
                text = f"('{NO_INSTANT}' || {text})"
            case "bytes":
                text = f"('x' || lower(hex({name})))"
            case "text" if column.kind == "uuid":
                text = _lower(text)
            case "text" | "other" if column.column.ignore_case:
                text = _lower(text)
            case _:
                pass
        return after(before, marked(column, text, self._view.side))

    def _table(self) -> str:
        parts = self.ref.parts
        found = self._all(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database() ORDER BY 1, 2",
            {},
        )
        schema = parts[0] if len(parts) == 2 else "main"
        if not any((schema.lower(), parts[-1].lower()) == (s.lower(), t.lower()) for s, t in found):
            known = ", ".join(f"{s}.{t}" for s, t in found[:20]) or "none"
            raise InvalidComparison(f"{self.ref.name} does not exist; tables there are {known}")
        return ".".join(map(self._quoted, parts))

    def _read_columns(self) -> dict[str, ColumnType]:
        described = self._all(f"DESCRIBE SELECT * FROM {self._source} AS compared", {})
        return {
            name: ColumnType(_FAMILIES.get(type_.partition("(")[0], "other"), type_) for name, type_, *_ in described
        }

    def _run(self, query: str) -> None:
        with self._asking():
            self._connection.execute(query)


def _md5(text: str) -> str:
    return f"CAST('0x' || right(md5({text}), 15) AS BIGINT)"


def _lower(text: str) -> str:
    """ASCII only: Unicode's lower case and its case folding are not the same."""
    return f"translate({text}, '{string.ascii_uppercase}', '{string.ascii_lowercase}')"


def _without_zeros(text: str) -> str:
    plain = f"contains({text}, '.') AND NOT contains({text}, 'e')"
    return f"(CASE WHEN {plain} THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END)"


def _instant_text(instant: str) -> str:
    """Seconds since 1970, as PostgreSQL writes them."""
    first, last = EXACT_INSTANTS
    return (
        f"CASE WHEN {instant} > '{first}' AND {instant} < '{last}' "
        f"THEN {_without_zeros(f'epoch({instant})::VARCHAR')} ELSE '{NO_INSTANT}' || {instant}::VARCHAR END"
    )


def _instant(instant: Any, cast_to: str) -> Any:
    return instant if cast_to == "TIMESTAMPTZ" else instant.replace(tzinfo=None)
