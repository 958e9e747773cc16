"""A producer that sends again what was acknowledged: told when a window holds more copies than retries explain."""

import json

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.raw_sql import copies_in_topics
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.duplicates import is_worth_telling
from incident_pipelines.core.windows import TimeWindow


def record_copies(
    connection: Connection, contract: EventContract, window: TimeWindow, rows: int, left_out: int
) -> None:
    """Write down a fact if a window got too many copies from its topic; nothing else is done about them.

    Args:
        rows: different events of the window.
        left_out: copies of them that are not published, wherever they came from.
    """
    if not is_worth_telling(rows + left_out, left_out):
        return
    values = {"dataset": contract.name, "window_start": window.start, "window_end": window.end}
    copies = int(connection.execute(text(copies_in_topics(contract)), values).scalar_one())
    told = int(connection.execute(query("told_copies"), values).scalar_one())
    events = rows + left_out
    if is_worth_telling(events, copies, told):
        detail = {"copies": copies, "events": events, "share": copies / events}
        connection.execute(query("record_duplicates"), {**values, "detail": json.dumps(detail)})
