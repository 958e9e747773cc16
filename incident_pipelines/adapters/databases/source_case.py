"""Finds the rows of one business case in a source's table, on any engine SQLAlchemy knows."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.source_table import SourceTable
from incident_pipelines.core.case import SourceRow
from incident_pipelines.core.contracts.images import image_of
from incident_pipelines.core.contracts.model import RowsContract, TableSource

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
    rows = SourceTable(engine, contract).having(contract.correlation_id, correlation_value, MAX_ROWS)
    names = [declared.name for declared in contract.columns]
    return [_row(contract, origin, dict(zip(names, row, strict=True))) for row in rows]


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
