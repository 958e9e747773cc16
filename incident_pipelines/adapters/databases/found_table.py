"""Describes a table of somebody else's database, on any engine SQLAlchemy knows; nothing of its rows is read."""

from typing import Any

from sqlalchemy import Enum, create_engine, inspect, types
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.core.contracts.draft import CannotDraft, FoundColumn, FoundTable
from incident_pipelines.core.contracts.model import Column
from incident_pipelines.core.errors import InvalidIdentifier, SourceUnavailable
from incident_pipelines.core.identifiers import identifier

_WIDEST = 38
_FREE_SCALE = 10


def find_table(url: str, source: str, variable: str, schema: str | None, table: str) -> FoundTable:
    """Ask a database what a table looks like.

    Args:
        url: SQLAlchemy URL.
        source: name of the source in the catalog.
        variable: environment variable that holds the URL, for messages.
        schema: None for the engine's default.

    Raises:
        CannotDraft: there is no such table, or the URL is none.
        SourceUnavailable: the database does not answer.
    """
    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        # The message of an ArgumentError may hold the URL, and with it a password.
        kind = "is no SQLAlchemy URL" if isinstance(error, ArgumentError) else f"cannot be used: {error}"
        raise CannotDraft(f"{variable} {kind}; write it like postgresql+psycopg://user@host:5432/database") from None
    try:
        with available(f"database {variable}"), engine.connect() as connection:
            inspector = inspect(connection)
            # What has no schemas answers with none; a contract then names PostgreSQL's default.
            named = schema if connection.dialect.name != "sqlite" else None
            columns = inspector.get_columns(table, named)
            key = inspector.get_pk_constraint(table, named)["constrained_columns"]
            alone = [
                one["column_names"][0]
                for one in inspector.get_unique_constraints(table, named)
                if len(one["column_names"]) == 1
            ]
            schema = schema or inspector.default_schema_name or "public"
    except NoSuchTableError as error:
        raise CannotDraft(
            f"{variable} has no table {schema + '.' if schema else ''}{table}, or may not see it"
        ) from error
    except SQLAlchemyError as error:
        first_line = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SourceUnavailable(f"database {variable} cannot be asked: {first_line}") from error
    finally:
        engine.dispose()
    unique = set(alone) | (set(key) if len(key) == 1 else set())
    return FoundTable(
        source,
        variable,
        schema,
        table,
        tuple(_found(column, column["name"] in unique, column["name"] in key) for column in columns),
        tuple(key),
    )


def _found(reflected: Any, unique: bool, in_key: bool) -> FoundColumn:
    name: str = reflected["name"]
    native = str(reflected["type"])
    try:
        identifier(name)
    except InvalidIdentifier:
        return FoundColumn(name, None, native, "its name is not lower case letters, digits and _")
    common: dict[str, Any] = {
        "name": name,
        "required": in_key or not reflected["nullable"],
        "unique": unique,
        "description": (reflected.get("comment") or "").strip(),
    }
    column, note = _typed(reflected["type"], common)
    return FoundColumn(name, column, native, note)


def _typed(found: Any, common: dict[str, Any]) -> tuple[Column | None, str]:
    match found:
        case types.Uuid():
            return Column(type="uuid", **common), ""
        case Enum():
            return Column(type="text", allowed=tuple(found.enums), **common), ""
        case types.Boolean():
            return Column(type="boolean", **common), ""
        case types.Integer():
            return Column(type="integer", **common), ""
        case types.Float():
            note = f"{found} has no fixed number of decimals: more than {_FREE_SCALE} make the row a dead letter."
            return Column(type="numeric", precision=_WIDEST, scale=_FREE_SCALE, **common), note
        case types.Numeric(precision=int(precision), scale=scale) if 0 <= (scale or 0) <= precision <= _WIDEST:
            return Column(type="numeric", precision=precision, scale=scale or 0, **common), ""
        case types.Numeric():
            note = f"{found}: TO FILL IN its digits; a number with more than {_FREE_SCALE} decimals is a dead letter."
            return Column(type="numeric", precision=_WIDEST, scale=_FREE_SCALE, **common), note
        case types.DateTime(timezone=zone):
            note = "" if zone else f"{common['name']} has no zone: its values are taken for UTC."
            return Column(type="timestamp", **common), note
        case types.Date():
            return Column(type="date", **common), ""
        case types.String(length=length):
            return Column(type="text", max_length=length, **common), ""
        case _:
            return None, ""
