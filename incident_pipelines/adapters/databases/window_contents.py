"""What publishing left in the windows, what stands in them now, and who else changed their tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.protection import published_table
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.databases.window_digest import can_be_hashed, digest
from incident_pipelines.core.contracts.model import Contract
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.publication import WindowContent
from incident_pipelines.core.window_watch import Found, OutsideChange, Span, WatchedWindow, outside_changes
from incident_pipelines.core.windows import TimeWindow

_FIRST, _LAST = "TIMESTAMPTZ '0001-01-02 00:00:00+00'", "TIMESTAMPTZ '9999-12-30 00:00:00+00'"


def watched_windows(
    connection: Connection, contracts: Mapping[str, Contract], start: datetime | None = None
) -> list[WatchedWindow]:
    """Return the windows that were ever decided on; of a dataset that is one window the last one, wherever it began.

    Args:
        start: only of windows that begin then.
    """
    windows: dict[tuple[str, datetime | None], WatchedWindow] = {}
    for row in connection.execute(query("watched_windows"), {"datasets": list(contracts), "window_start": start}):
        content = None
        if row.content_digest is not None:
            content = WindowContent(row.content_rows, int(row.content_digest), tuple(row.content_columns))
        window = WatchedWindow(row.dataset, row.window_start, row.window_end, row.published_at, row.owner, content)
        whole = contracts[row.dataset].time_column is None
        key = (row.dataset, None if whole else row.window_start)
        if key not in windows or windows[key].published_at < window.published_at:
            windows[key] = window
    return list(windows.values())


def published_columns(connection: Connection, contracts: Iterable[Contract]) -> dict[str, list[str]]:
    """Return the columns that the tables of datasets have now, by dataset; none of a table that is not there."""
    datasets = {".".join(published_table(contract)): contract.name for contract in contracts}
    rows = connection.execute(query("published_columns"), {"tables": list(datasets)})
    return {datasets[row.table_name]: list(row.columns) for row in rows}


def found_in(connection: Connection, contract: Contract, span: Span) -> list[Found]:
    """Return what stands in a span of a published table, by window."""
    source = f"FROM {quoted(*published_table(contract))} t"
    totals = f"count(*), {digest(span.columns, 't')}"
    name = contract.time_column
    if name is None:
        (window,) = span.windows
        row = connection.execute(text(f"SELECT {totals} {source}")).one()
        return [Found(window.start, row[0], None if row[1] is None else int(row[1]))] if row[0] else []
    column = f"t.{quoted(name)}"
    start, end = "CAST(:start AS timestamptz)", "CAST(:end AS timestamptz)"
    window_start = f"date_trunc('hour', {column}, 'UTC')"
    if contract.column(name).type == "date":
        start, end = (f"CAST({bound} AT TIME ZONE 'UTC' AS date)" for bound in (start, end))
        window_start = f"{column}::timestamp AT TIME ZONE 'UTC'"
    # What Python has no name for is in no window either way.
    window_start = f"least(greatest({window_start}, {_FIRST}), {_LAST})"
    bounds: Sequence[str] = [
        *([f"{column} >= {start}"] if span.start else []),
        *([f"{column} < {end}"] if span.end else []),
    ]
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    rows = connection.execute(
        text(f"SELECT {window_start}, {totals} {source}{where} GROUP BY 1"), {"start": span.start, "end": span.end}
    )
    return [Found(row[0], row[1], None if row[2] is None else int(row[2])) for row in rows]


def outside_statements(connection: Connection, contract: Contract, change: OutsideChange) -> list[dict[str, object]]:
    """Return the last statements that changed a window's table since its publish and published nothing themselves."""
    since = change.window.published_at if change.window else datetime.min.replace(tzinfo=UTC)
    values = {"table_name": ".".join(published_table(contract)), "since": since}
    return [dict(row) for row in connection.execute(query("outside_statements"), values).mappings()]


def record_outside_change(connection: Connection, contract: Contract, window: TimeWindow) -> None:
    """Record the fact, if it is one, that a window was changed outside; to be called by its owner before a publish.

    What publishing puts back no later comparison sees.
    """
    for known in watched_windows(connection, {contract.name: contract}, window.start):
        if known.content is None:
            continue
        columns = published_columns(connection, [contract]).get(contract.name, ())
        if not can_be_hashed(known.content.columns, columns):
            continue
        span = Span(contract.name, window.start, window.end, known.content.columns, (known,))
        for change in outside_changes(span, found_in(connection, contract, span)):
            detail = change.detail(outside_statements(connection, contract, change), put_back=True)
            connection.execute(
                query("record_outside_change"),
                {
                    "dataset": contract.name,
                    "window_start": window.start,
                    "window_end": window.end,
                    "detail": json.dumps(detail),
                },
            )
