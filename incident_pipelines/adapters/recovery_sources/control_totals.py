"""What producers declare to have sent."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import RowMapping

from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.recovery.declaration import ControlTotals
from incident_pipelines.core.windows import TimeWindow

_BY_MINUTE = """
SELECT minute, {segments}sum(events) AS events FROM (
{statement}
) AS declared GROUP BY minute{segments_again} ORDER BY minute
"""


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
    totals = _totals(catalog, dataset)
    if totals is None or not windows:
        return [None] * len(windows)
    rows = _read(catalog, environment, totals, windows, ())
    minutes = np.array([_seconds(row["minute"]) for row in rows], np.int64)
    summed = np.concatenate(([0], np.cumsum([int(row["events"]) for row in rows], dtype=np.int64)))
    found: list[int | None] = []
    for window in windows:
        whole = all(at == at.replace(second=0, microsecond=0) for at in (window.start, window.end))
        first, end = np.searchsorted(minutes, [_seconds(window.start), _seconds(window.end)])
        found.append(int(summed[end] - summed[first]) if whole and end > first else None)
    return found


def segment_columns(catalog: Catalog, dataset: str) -> tuple[str, ...]:
    """Return the columns by which the control totals of a dataset are told apart; none where there are none."""
    totals = _totals(catalog, dataset)
    return totals.segments if totals else ()


def declared_by_segment(
    catalog: Catalog, environment: Mapping[str, str], dataset: str, windows: Sequence[TimeWindow]
) -> dict[tuple[str, ...], int]:
    """Return the control total of all windows together by the values of `segment_columns`.

    Args:
        windows: in order, none overlapping another, of whole minutes.

    Raises:
        SourceUnavailable: the database with the totals does not answer.
    """
    totals = _totals(catalog, dataset)
    if totals is None or not totals.segments or not windows:
        return {}
    starts = [_seconds(window.start) for window in windows]
    ends = [_seconds(window.end) for window in windows]
    found: dict[tuple[str, ...], int] = {}
    for row in _read(catalog, environment, totals, windows, totals.segments):
        place = bisect_right(starts, _seconds(row["minute"])) - 1
        if place >= 0 and _seconds(row["minute"]) < ends[place]:
            segment = tuple(str(row[name]) for name in totals.segments)
            found[segment] = found.get(segment, 0) + int(row["events"])
    return found


def _totals(catalog: Catalog, dataset: str) -> ControlTotals | None:
    recovery = catalog.recoveries.get(dataset)
    return recovery.control_totals if recovery else None


def _read(
    catalog: Catalog,
    environment: Mapping[str, str],
    totals: ControlTotals,
    windows: Sequence[TimeWindow],
    segments: Sequence[str],
) -> list[RowMapping]:
    url = environment.get(catalog.sources[totals.source])
    if not url:
        raise SourceUnavailable(f"control totals cannot be read: {catalog.sources[totals.source]} is not set")
    columns = [quoted(name) for name in segments]
    statement = _BY_MINUTE.format(
        statement=catalog.recovery_sql[totals.sql].strip().rstrip(";"),
        segments="".join(f"{column}, " for column in columns),
        segments_again="".join(f", {column}" for column in columns),
    )
    values = {
        "window_start": min(window.start for window in windows),
        "window_end": max(window.end for window in windows),
    }
    return read_rows(url, totals.source, statement, values)


def _seconds(instant: datetime) -> int:
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())
