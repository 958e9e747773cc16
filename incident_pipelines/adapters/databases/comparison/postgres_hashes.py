"""A row's hash out of PostgreSQL's own seeded hash functions, chained over its columns: each is the next one's seed.

Some of these functions leave something out of what they hash, and what is left out would be a difference that nobody
sees. Here it is put into the seed:

- `hashint8extended` and `timestamp_hash_extended` fold 64 bits to 32 (1 and 2^32 collide for every seed): an integer is
  put into a seed whole, and of an instant the upper half is hashed by itself.
- `hash_numeric_extended` leaves out the sign, and puts the weight in after mixing: a seed says the sign, and whatever
  comes next is mixed again before anything is added.
- all are strict: a NULL is hashed as a value, and a bit of the seed says that it was none.

PostgreSQL promises the functions not to change between releases, as hash partitions are stored by them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from incident_pipelines.adapters.databases.comparison.table import PairedColumn, cell_width, comparable

_UPPER_HALF = "4294.967296 seconds"  # 2^32 microseconds
MOST_FLAGS = 16
"""Flags that are put into the first seed."""

_Link = Callable[[str], str]
"""A seed's SQL → the SQL of the hash of a value with it."""
_Form = Literal["integer", "flag", "numeric", "float", "timestamp", "date", "uuid", "text"]


@dataclass(frozen=True)
class _Part:
    form: _Form
    sql: str
    zoned: bool = False
    bounded: bool = False


class RowHash:
    """Builds the SQL of hashes.

    Args:
        quote: quotes a column's name.
        canonical: gives the SQL of a column's canonical text, for types without a function of their own.
    """

    def __init__(self, quote: Callable[[str], str], canonical: Callable[[PairedColumn], str]) -> None:
        self._quote = quote
        self._canonical = canonical

    def sql(self, columns: Sequence[PairedColumn], seed: str, flags_from_bit: int = 0) -> str:
        """Return the SQL of the hash of some columns.

        Args:
            seed: SQL of a bigint that the hash starts from; distinct for keys whose hashes are summed.
            flags_from_bit: from which bit on (up to 60 - `MOST_FLAGS`) something may be added to the seed, so that it
                stays distinct.
        """
        bits: list[str] = []
        nulls: list[str] = []
        integers: list[str] = []
        strong: list[_Link] = []
        weak: list[_Link] = []
        for column in columns:
            part = self._part(column)
            if part.form == "flag":
                bits.append(part.sql)
            value = part.sql
            # Both sides have to have the same bits, so that one that is NULL on neither may still have one.
            if any(side is None or side.nullable for side in (column.own, column.other)):
                nulls.append(f"{self._quote(column.name)} IS NULL")
                value = f"coalesce({part.sql}, {_DEFAULTS[part.form]})"
            match part.form:
                case "flag":
                    pass
                case "integer":
                    integers.append(f"({value})::int8")
                case "numeric":
                    weak.append(_numeric(part.sql, value, part.bounded))
                case "float":
                    weak.append(lambda h, v=value: f"hashfloat8extended({v}, {h})")
                case "timestamp":
                    strong.extend(_timestamp(value, part.zoned))
                case "date":
                    strong.append(lambda h, v=value: f"hashdateextended({v}, {h})")
                case "uuid":
                    strong.append(lambda h, v=value: f"uuid_hash_extended({v}, {h})")
                case "text":
                    strong.append(lambda h, v=value: f'hashtextextended({v} COLLATE "C", {h})')
        words = [*_words(bits), *(_if_any(part, word) for part, word in zip(_parts(nulls), _words(nulls), strict=True))]
        if len(bits) + len(nulls) <= MOST_FLAGS and words:
            bits_word = _word(bits, flags_from_bit)
            nulls_word = _if_any(nulls, _word(nulls, flags_from_bit + len(bits))) if nulls else ""
            seed = f"({' # '.join(filter(None, (seed, bits_word, nulls_word)))})"
        else:
            integers.extend(words)
        return _chained(seed, integers, strong, weak)

    def _part(self, column: PairedColumn) -> _Part:
        own, other = column.own, column.other
        name = self._quote(column.name)
        if own is None or other is None or cell_width(column) is not None or column.column.ignore_case:
            return _Part("text", self._canonical(column))
        families = {own.family, other.family}
        if families == {"boolean"}:
            return _Part("flag", name)
        if families == {"integer"}:
            return _Part("integer", name)
        if families == {"integer", "boolean"}:
            return _Part("integer", f"{name}::int")
        if families <= {"integer", "decimal"}:
            bounded = own.bounded or own.family == "integer"
            return _Part("numeric", f"{name}::numeric", bounded=bounded)
        if own.type == other.type and own.family == "float":
            return _Part("float", f"{name}::float8")
        if families <= {"timestamp", "timestamptz", "date"}:
            if families == {"date"}:
                return _Part("date", name)
            if len(families) == 1:
                return _Part("timestamp", name, own.family == "timestamptz")
            zoned = name if own.family == "timestamptz" else f"{name}::timestamp AT TIME ZONE 'UTC'"
            return _Part("timestamp", zoned, True)
        if families == {"uuid"}:
            return _Part("uuid", name)
        if column.kind == "text" and comparable(column):
            return _Part("text", f"{name}::text")
        return _Part("text", self._canonical(column))


_DEFAULTS: dict[_Form, str] = {
    "integer": "0",
    "flag": "false",
    "numeric": "0",
    "float": "0",
    "timestamp": "'2000-01-01'",
    "date": "'2000-01-01'",
    "uuid": "'00000000-0000-0000-0000-000000000000'",
    "text": "''",
}


def _parts(flags: list[str]) -> list[list[str]]:
    return [flags[first : first + 60] for first in range(0, len(flags), 60)]


def _words(flags: list[str]) -> list[str]:
    return [_word(part, 0) for part in _parts(flags)]


def _word(flags: list[str], first_bit: int) -> str:
    """Return the SQL of an integer with a bit for each condition that holds."""
    bits = (f"CASE WHEN {flag} THEN {1 << bit}::int8 ELSE 0::int8 END" for bit, flag in enumerate(flags, first_bit))
    return f"({' + '.join(bits)})" if flags else ""


def _if_any(flags: list[str], word: str) -> str:
    """Look at each flag only if one of them is set: for nearly all rows none is."""
    return f"CASE WHEN {' OR '.join(flags)} THEN {word} ELSE 0::int8 END"


def _numeric(raw: str, value: str, bounded: bool) -> _Link:
    """Zero gives seed - 1 and what is no number gives the seed, so a flipped seed and a bit of it tell them apart."""
    nan = "" if bounded else f" WHEN {raw} = 'NaN' THEN {1 << 40}::int8"
    sign = f"CASE WHEN {raw} < 0 THEN (-1)::int8{nan} ELSE 0::int8 END"
    return lambda h: f"hash_numeric_extended({value}, {h} # {sign})"


def _timestamp(value: str, zoned: bool) -> list[_Link]:
    function = "timestamptz_hash_extended" if zoned else "timestamp_hash_extended"
    origin = "timestamptz '2000-01-01 00:00:00+00'" if zoned else "timestamp '2000-01-01'"
    return [
        lambda h: f"{function}(date_bin('{_UPPER_HALF}', {value}, {origin}), {h})",
        lambda h: f"{function}({value}, {h})",
    ]


def _mixed(seed: str) -> str:
    return f"hashint8extended(0, {seed})"


def _chained(seed: str, integers: list[str], strong: list[_Link], weak: list[_Link]) -> str:
    """Chain the links. Nothing but a mixed seed is hashed weakly or added to, and the end is mixed.

    Strong links mix their seed and value; after a weak one, and after an integer was added, it has to be mixed again.
    """
    mixing = iter([*strong, *[_mixed] * (len(weak) + len(integers) + 1)])
    chain = next(mixing)(seed)
    for link in weak:
        chain = next(mixing)(link(chain))
    for integer in integers:
        chain = next(mixing)(f"({chain} # ({integer}))")
    for _ in range(len(strong) - 1 - len(weak) - len(integers)):
        chain = next(mixing)(chain)
    return chain
