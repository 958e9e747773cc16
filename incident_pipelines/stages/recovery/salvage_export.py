"""Writes the cases that could not be completed as a list for customer outreach."""

import csv
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.masking import masked
from incident_pipelines.core.salvage import CANDIDATE_COLUMNS, Salvage, Salvages
from incident_pipelines.stages.recovery.salvage import PAGE, Left, SalvageRefused, rows_of_keys


def export_left(
    path: Path,
    catalog: Catalog,
    salvages: Salvages,
    salvage: Salvage,
    environment: Mapping[str, str],
    left: Sequence[Left],
    *,
    with_personal_data: bool = False,
) -> int:
    """Write what could not be completed as CSV, readable by its owner alone; return the number of rows.

    Args:
        with_personal_data: write personal columns as they are, and not masked.

    Raises:
        SalvageRefused: the file cannot be written.
        SourceUnavailable: the source with the contacts does not answer.
    """
    contacts: dict[str, dict[str, Any]] = {}
    columns: list[str] = []
    if salvage.outreach is not None:
        outreach = salvage.outreach
        for first in range(0, len(left), PAGE):
            page = [one.candidate for one in left[first : first + PAGE]]
            for row in rows_of_keys(catalog, salvages, outreach.source, outreach.sql, environment, page):
                columns = columns or [name for name in row if name != "key"]
                hidden = set() if with_personal_data else set(outreach.personal)
                contacts[str(row["key"])] = {n: masked(v) if n in hidden else v for n, v in row.items()}
    part = path.with_name(f"{path.name}.part")
    try:
        with suppress(FileNotFoundError):
            part.unlink()
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*CANDIDATE_COLUMNS, "reason", *columns])
            for one in left:
                known = contacts.get(one.candidate.key, {})
                case = one.candidate
                row = [case.key, case.amount, case.currency, case.since.isoformat(), one.reason]
                writer.writerow([_cell(value) for value in (*row, *(known.get(name) for name in columns))])
        part.replace(path)
    except OSError as error:
        raise SalvageRefused(f"{path} cannot be written: {error.strerror or error}") from error
    return len(left)


def _cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins like a formula for one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
