"""Reads what a manual correction returns: its SELECT runs read-only, under a cap, wherever its file says."""

from collections.abc import Mapping, Sequence
from typing import Any

from incident_pipelines.adapters.databases.originals import as_bytes
from incident_pipelines.adapters.databases.postgres import reading_url
from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.core.contracts.decoder import row_key
from incident_pipelines.core.contracts.images import image_of
from incident_pipelines.core.contracts.model import Landed
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE
from incident_pipelines.core.recovery.correction import Correction, CorrectionRefused

_CAPPED = "SELECT * FROM (\n{statement}\n) AS corrected LIMIT {limit}"

Message = tuple[bytes | None, bytes]
"""(key, value)"""


def read_correction(url: str, correction: Correction, max_rows: int) -> list[dict[str, Any]]:
    """Return the rows of a correction's SELECT, with names in lower case.

    Args:
        url: of the source that the correction names.
        max_rows: that it may return.

    Raises:
        CorrectionRefused: there are none, or more.
        SourceUnavailable: the source does not answer, or not to this statement.
    """
    if correction.source == WAREHOUSE:
        url = reading_url(url)
    statement = _CAPPED.format(statement=correction.sql, limit=max_rows + 1)
    rows = [
        {name.lower(): value for name, value in row.items()} for row in read_rows(url, correction.source, statement, {})
    ]
    if not rows:
        raise CorrectionRefused(f"{correction.file} returns no row: an empty selection corrects nothing")
    if len(rows) > max_rows:
        raise CorrectionRefused(
            f"{correction.file} returns more than {max_rows:,} rows: look at them, then allow more with --max-rows"
        )
    return rows


def messages_of(correction: Correction, contract: Landed, rows: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return rows as messages of the dataset, as its producer or an extract would write them.

    Raises:
        CorrectionRefused: a row has no value.
    """
    if not correction.is_messages:
        write = image_of(contract)
        names = [column.name for column in contract.columns]
        return [(None, write([row.get(name) for name in names])[1]) for row in rows]
    found: list[Message] = []
    for number, row in enumerate(rows, start=1):
        value = as_bytes(row["value"])
        if value is None:
            raise CorrectionRefused(f"{correction.file}: row {number} has no value")
        found.append((as_bytes(row.get("key")), value))
    return found


def keys_of(contract: Landed, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the primary key of each row as the log writes it."""
    return [row_key([row[name] for name in contract.primary_key]) for row in rows]
