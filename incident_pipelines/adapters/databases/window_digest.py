"""One number for the rows of a window: the sum of their hashes; PostgreSQL dialect.

Each column is hashed with the hash of those before it as seed: a value that moves to another row or column shows.
hash_record_extended would lose that in the sum, since it only adds up the columns' hashes, and takes twice as long.
"""

from collections.abc import Sequence
from functools import cache

from incident_pipelines.core.contracts.ddl import PROVENANCE, PROVENANCE_TYPES
from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.identifiers import quoted

_SEED = "1::bigint"
_NOT_NULL = " NOT NULL"
_FLAGS_IN_A_NUMBER = 30
# By type: the hash of {value} with {seed}, and what stands for NULL, which a flag tells from the real value.
_HASHES = {
    "uuid": ("uuid_hash_extended({value}, {seed})", "'00000000-0000-0000-0000-000000000000'::uuid"),
    "text": ('hashtextextended({value} COLLATE "C", {seed})', "''"),
    # hashint8extended folds 64 bits to 32: the upper half goes in by itself.
    "bigint": ("hashint8extended({value}, hashint4extended(({value} >> 32)::integer, {seed}))", "0::bigint"),
    "integer": ("hashint4extended({value}, {seed})", "0"),
    "boolean": ("hashint4extended({value}::integer, {seed})", "false"),
    # It leaves out the sign, which is a flag.
    "numeric": ("hash_numeric_extended({value}, {seed})", "0"),
    # The hash of timestamps folds as well; the double tells microseconds apart until 2242.
    "timestamp with time zone": ("hashfloat8extended(date_part('epoch', {value}), {seed})", "'infinity'"),
    "date": ("hash_record_extended(ROW({value}), {seed})", "'infinity'::date"),
}


def content_columns(contract: Contract) -> tuple[str, ...]:
    """Return the columns of a published table as its digest names them."""
    columns = [f"{column.name} {column.sql_type}{_NOT_NULL if column.required else ''}" for column in contract.columns]
    if not isinstance(contract, MartContract):
        columns += [f"{name} {kind}{_NOT_NULL}" for name, kind in zip(PROVENANCE, PROVENANCE_TYPES, strict=True)]
    return tuple(columns)


def can_be_hashed(columns: Sequence[str], table: Sequence[str]) -> bool:
    """Whether a table still has the columns that a digest was made of, with their types.

    Args:
        columns: of the digest.
        table: all columns of the table, without NOT NULL.
    """
    return {column.removesuffix(_NOT_NULL) for column in columns} <= set(table)


@cache
def digest(columns: tuple[str, ...], alias: str) -> str:
    """Return the expression of the digest over rows of an alias; NULL where there are none.

    A required column that is NULL all the same makes the row's hash NULL: the row is missing in the sum, which shows.

    Raises:
        InvalidIdentifier, KeyError: not columns as `content_columns` writes them.
    """
    seed = _SEED
    flags: list[str] = []
    for column in columns:
        name, _, declared = column.partition(" ")
        value = f"{alias}.{quoted(name)}"
        expression, stand_in = _HASHES[declared.removesuffix(_NOT_NULL).partition("(")[0]]
        if not declared.endswith(_NOT_NULL):
            flags.append(f"{value} IS NULL")
            value = f"coalesce({value}, {stand_in})"
        if declared.startswith("numeric"):
            flags.append(f"{value} < 0")
        seed = expression.format(value=value, seed=seed)
    # Also without flags: what the last column's hash did not mix would add up in the sum.
    for first in range(0, max(len(flags), 1), _FLAGS_IN_A_NUMBER):
        part = flags[first : first + _FLAGS_IN_A_NUMBER]
        number = " | ".join(f"(({flag})::integer << {place})" for place, flag in enumerate(part)) or "0"
        seed = f"hashint4extended({number}, {seed})"
    return f"sum({seed})"
