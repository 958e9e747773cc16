"""What producers declare to have sent."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import TimeWindow

_BY_MINUTE = "SELECT minute, sum(events) AS events FROM (\n{statement}\n) AS declared GROUP BY minute ORDER BY minute"


def declared_events(
    catalog: Catalog, environment: Mapping[str, str], dataset: str, windows: Sequence[TimeWindow]
) -> list[int | None]:
    """Return the control total of each window; None where nothing is declared.

    Counts are by minute: a window that begins or ends within one has none.

    Args:
        windows: any; they are read as one range.

    Raises:
        SourceUnavailable: the database with the totals does not answer.
    """
    recovery = catalog.recoveries.get(dataset)
    totals = recovery.control_totals if recovery else None
    if totals is None or not windows:
        return [None] * len(windows)
    url = environment.get(catalog.sources[totals.source])
    if not url:
        raise SourceUnavailable(f"control totals cannot be read: {catalog.sources[totals.source]} is not set")
    statement = _BY_MINUTE.format(statement=catalog.recovery_sql[totals.sql].strip().rstrip(";"))
    values = {
        "window_start": min(window.start for window in windows),
        "window_end": max(window.end for window in windows),
    }
    rows = read_rows(url, totals.source, statement, values)
    minutes = np.array([_seconds(row["minute"]) for row in rows], np.int64)
    summed = np.concatenate(([0], np.cumsum([int(row["events"]) for row in rows], dtype=np.int64)))
    found: list[int | None] = []
    for window in windows:
        whole = all(at == at.replace(second=0, microsecond=0) for at in (window.start, window.end))
        first, end = np.searchsorted(minutes, [_seconds(window.start), _seconds(window.end)])
        found.append(int(summed[end] - summed[first]) if whole and end > first else None)
    return found


def _seconds(instant: datetime) -> int:
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())
