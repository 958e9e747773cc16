"""A table as a database describes it → a first contract of its rows, for a person to complete."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from incident_pipelines.core.contracts.draft_text import column_lines, contract_head, listed, scalar
from incident_pipelines.core.contracts.model import Column
from incident_pipelines.core.errors import IncidentPipelinesError, InvalidIdentifier
from incident_pipelines.core.identifiers import identifier

_CHANGED = ("updated_at", "modified_at", "changed_at", "updated_on", "last_updated", "last_modified", "last_update",
            "updated", "modified", "changed", "mtime")  # fmt: skip
_CREATED = ("created_at", "inserted_at", "created_on", "creation_time", "created", "inserted", "ctime")


class CannotDraft(IncidentPipelinesError):
    """No contract can be made from what was found; the message says what to do about it."""


@dataclass(frozen=True)
class FoundColumn:
    """A column as its database describes it.

    Args:
        column: what a contract can say of it; None where no type of a contract holds its values.
        native_type: the database's name of its type.
        note: what a reader of the contract should know of the translation.
    """

    name: str
    column: Column | None
    native_type: str
    note: str = ""


@dataclass(frozen=True)
class FoundTable:
    """A table as its database describes it.

    Args:
        source: name of the source in the catalog.
        variable: environment variable with the URL, for messages.
        primary_key: its columns; empty where it has none.
    """

    source: str
    variable: str
    schema: str
    table: str
    columns: tuple[FoundColumn, ...]
    primary_key: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """The table with its schema."""
        return f"{self.schema}.{self.table}"

    @property
    def dataset(self) -> str:
        """Name of its dataset: two databases may have a table of the same name."""
        return identifier(f"{self.source}_{self.table}", "the dataset's name")


def draft_rows_contract(found: FoundTable, changed: str | None = None, created: str | None = None) -> str:
    """Write the contract of a table's rows as YAML, with comments on what a person has to look at.

    Args:
        found: the table.
        changed: column that moves with each change; if absent, it is known by its name.
        created: column that decides a row's hour; likewise, and there may be none.

    Raises:
        CannotDraft: there is no primary key, no column that moves with each change, or a needed column cannot be kept.
    """
    kept = {one.name: one.column for one in found.columns if one.column is not None}
    _check_key(found, kept)
    timestamps = [name for name, column in kept.items() if column.type == "timestamp"]
    changed = _changed_column(found, timestamps, changed)
    created = _created_column(found, timestamps, created)
    needed = {*found.primary_key, *filter(None, (changed, created))}
    return "\n".join(
        (
            f"# Rows of {found.full_name} in {found.source}, as its database describes them.",
            "# What a person knows better is marked TO FILL IN. All that a contract can say: docs/contracts.md.",
            *contract_head(found.dataset, f"Rows of {found.full_name}."),
            "customProperties:",
            *_property("dataset", "rows"),
            "# catalog.yaml says which environment variable holds its address.",
            *_property("source", found.source),
            *_property("table", found.full_name),
            *_property("primaryKey", found.primary_key),
            "# Moves with every change of a row, or the change is not seen. An index on it keeps the reading cheap.",
            *_property("updatedAt", changed),
            *_created_lines(created),
            "# TO FILL IN: the column that ties rows and events of one business case together, for `trace`.",
            "# - property: correlationId",
            f"#   value: {found.primary_key[0]}",
            "# Share of an hour's rows that may break a rule before the hour is refused.",
            *_property("maxQuarantineShare", 0.01),
            "# Who can give a row again, in order of preference.",
            *_property("recoverySources", ("landing_log", "database_extract")),
            "schema:",
            f"- name: {scalar(found.dataset)}",
            "  logicalType: object",
            "  properties:",
            *_columns(found.columns, needed, found.primary_key),
            "",
        )
    )


def _check_key(found: FoundTable, kept: dict[str, Column]) -> None:
    if not found.primary_key:
        raise CannotDraft(
            f"{found.variable}::{found.full_name} has no primary key, so that no change could be told from a new row; "
            f"add one, for example: ALTER TABLE {found.full_name} "
            f"ADD COLUMN {found.table}_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        )
    for name in found.primary_key:
        if name not in kept:
            native = next((one.native_type for one in found.columns if one.name == name), "?")
            raise CannotDraft(
                f"{found.variable}::{found.full_name}: column {name!r} ({native}) of the primary key cannot be kept: "
                "its name must be lower case without spaces, its type a uuid, text, number, boolean, timestamp or date"
            )


def _changed_column(found: FoundTable, timestamps: Sequence[str], named: str | None) -> str:
    if named is not None:
        return _timestamp(found, timestamps, named)
    known = next((name for name in _CHANGED if name in timestamps), None)
    if known is not None:
        return known
    reference = f"{found.variable}::{found.full_name}"
    if timestamps:
        raise CannotDraft(
            f"{reference}: which column moves with each change of a row? Its timestamps are {', '.join(timestamps)}; "
            f"name it: --table {reference}::COLUMN. Where rows are never changed, that is the time they were written"
        )
    raise CannotDraft(
        f"{reference} has no column that moves with each change, so that changes could not be seen; add one: "
        f"ALTER TABLE {found.full_name} ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(), and a trigger that "
        "sets it on UPDATE (docs/own-data.md has one); or land the table's changes from a Debezium topic"
    )


def _created_column(found: FoundTable, timestamps: Sequence[str], named: str | None) -> str | None:
    if named is not None:
        return _timestamp(found, timestamps, named)
    return next((name for name in _CREATED if name in timestamps), None)


def _timestamp(found: FoundTable, timestamps: Sequence[str], name: str) -> str:
    if name not in timestamps:
        raise CannotDraft(
            f"{found.variable}::{found.full_name} has no timestamp column {name!r}; "
            + (f"it has {', '.join(timestamps)}" if timestamps else "it has none at all")
        )
    return name


def _created_lines(created: str | None) -> Iterator[str]:
    if created is not None:
        yield "# Decides the hour of a row, and never changes."
        yield from _property("createdAt", created)
        return
    yield "# TO FILL IN: the timestamp that decides the hour of a row and never changes. Without it the whole table is"
    yield "# one window, published again with each change: right for small tables alone."
    yield "# - property: createdAt"
    yield "#   value: created_at"


def _columns(columns: Iterable[FoundColumn], needed: set[str], key: tuple[str, ...]) -> Iterator[str]:
    for found in columns:
        if found.column is None:
            why = found.note or "a contract has no such type"
            yield f"  # {found.name!r} ({found.native_type}) is left out: {why}."
            continue
        forced = found.name in needed and not found.column.required and found.name not in key
        if found.note:
            yield f"  # {found.note}"
        if forced:
            yield "  # The table allows NULL here; such a row would be a dead letter."
        yield from column_lines(found.column, required=found.column.required or forced, key=found.name in key)


def _property(name: str, value: str | float | Sequence[str]) -> Iterator[str]:
    yield f"- property: {name}"
    yield f"  value: {scalar(value) if isinstance(value, str | float | int) else listed(value)}"


def dataset_name(text: str) -> str:
    """Return a name for a dataset that resembles a text: a topic `Card.Payments` gives ``card_payments``.

    Raises:
        CannotDraft: nothing of it can be part of a name.
    """
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text.lower()).strip("_")
    try:
        return identifier(name)
    except InvalidIdentifier as error:
        raise CannotDraft(f"{text!r} gives no name: {error}") from error
