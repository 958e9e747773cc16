"""What producers declare to have sent."""

from collections.abc import Mapping, Sequence

from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import TimeWindow

_TOTAL = "SELECT sum(events) AS events FROM (\n{statement}\n) AS declared"


def declared_events(
    catalog: Catalog, environment: Mapping[str, str], dataset: str, windows: Sequence[TimeWindow]
) -> list[int | None]:
    """Return the control total of each window; None where nothing is declared.

    Counts are by minute: a window that begins or ends within one has none.

    Raises:
        SourceUnavailable: the database with the totals does not answer.
    """
    recovery = catalog.recoveries.get(dataset)
    totals = recovery.control_totals if recovery else None
    if totals is None:
        return [None] * len(windows)
    url = environment.get(catalog.sources[totals.source])
    if not url:
        raise SourceUnavailable(f"control totals cannot be read: {catalog.sources[totals.source]} is not set")
    statement = _TOTAL.format(statement=catalog.recovery_sql[totals.sql].strip().rstrip(";"))
    found: list[int | None] = []
    for window in windows:
        whole = all(at == at.replace(second=0, microsecond=0) for at in (window.start, window.end))
        values = {"window_start": window.start, "window_end": window.end}
        events = read_rows(url, totals.source, statement, values)[0]["events"] if whole else None
        found.append(None if events is None else int(events))
    return found
