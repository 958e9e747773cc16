"""Finds the rows of one business case in a source's table, on any engine SQLAlchemy knows."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, column, inspect, select, table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import Uuid

from incident_pipelines.core.case import SourceRow
from incident_pipelines.core.contracts.images import image_of
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import SourceUnavailable

MAX_ROWS = 1_000


def rows_of_case(engine: Engine, contract: RowsContract, correlation_value: str | int) -> list[SourceRow]:
    """Return the rows with a correlation id, at most `MAX_ROWS`; only declared columns are read.

    Args:
        engine: of the source's database; SELECT is all that is needed.
        correlation_value: as the contract's column has it.

    Raises:
        SourceUnavailable: the database does not answer, or the table is not there as declared.
    """
    origin = contract.origin
    assert isinstance(origin, TableSource)
    assert contract.correlation_id
    where = f"{origin.schema}.{origin.table}"
    schema = None if engine.dialect.name == "sqlite" else origin.schema
    names = [declared.name for declared in contract.columns]
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            types = {found["name"]: found["type"] for found in inspect(connection).get_columns(origin.table, schema)}
            missing = [name for name in names if name not in types]
            if missing:
                raise SourceUnavailable(f"{origin.source}: {where} has no column {', '.join(missing)}")
            columns = {name: column(name, types[name]) for name in names}
            sought = columns[contract.correlation_id]
            found = connection.execute(
                select(*columns.values())
                .select_from(table(origin.table, *columns.values(), schema=schema))
                .where(sought.in_(_candidates(contract, types[contract.correlation_id], correlation_value)))
                .limit(MAX_ROWS)
            ).all()
    except (SQLAlchemyError, ImportError) as error:
        first_line = (str(getattr(error, "orig", None) or error).strip().splitlines() or ["no answer"])[0]
        raise SourceUnavailable(f"{origin.source}: {where} cannot be read: {first_line}") from error
    return [_row(contract, origin, dict(zip(names, row, strict=True))) for row in found]


def _candidates(contract: RowsContract, column_type: Any, value: str | int) -> list[Any]:
    """The value as the column's own type takes it; a UUID kept as text may be in either case."""
    assert contract.correlation_id
    if isinstance(column_type, Uuid) and isinstance(value, str):
        return [uuid.UUID(value) if column_type.as_uuid else value]
    if isinstance(value, str) and contract.column(contract.correlation_id).type == "uuid":
        return [value, value.upper()]
    return [value]


def _row(contract: RowsContract, origin: TableSource, values: dict[str, Any]) -> SourceRow:
    key, image = image_of(contract)(list(values.values()))
    changed = _aware(values[origin.updated_at])
    created = _aware(values[contract.time_column]) if contract.time_column else changed
    return SourceRow(
        contract.name, origin.source, f"{origin.schema}.{origin.table}", key, image, created or changed, changed
    )


def _aware(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
