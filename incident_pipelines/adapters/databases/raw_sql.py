"""Contract → the statements that read a window of the log as typed rows; PostgreSQL dialect.

The window stands in the statements as literals: CREATE TABLE AS takes no parameters, and only it decodes in parallel.
"""

from incident_pipelines.core.contracts.ddl import PROVENANCE
from incident_pipelines.core.contracts.model import (
    ChangeTopic,
    Column,
    EventContract,
    Landed,
    RowsContract,
    TableSource,
)
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.windows import TimeWindow

POSITION = "l.origin_id, l.partition, l.position"


def literal(window: TimeWindow, column: str) -> str:
    """Return the condition that a timestamp lies in the window."""
    return (
        f"{column} >= TIMESTAMPTZ '{window.start.isoformat(sep=' ')}' "
        f"AND {column} < TIMESTAMPTZ '{window.end.isoformat(sep=' ')}'"
    )


def stage_raw(contract: Landed, window: TimeWindow) -> str:
    """Return the statement that makes ``staged``, the window's good rows of the log with their types.

    Of an event stream every copy; of rows the newest image of each key in the window, ``staged_absent`` where that is
    a delete.
    """
    columns = ", ".join(f"{_value(contract, column)} AS {quoted(column.name)}" for column in contract.columns)
    provenance = ", ".join(
        f"l.{column} AS {name}" for column, name in zip(("origin_id", "partition", "position"), PROVENANCE, strict=True)
    )
    source = f"FROM {quoted('landing', contract.name)} l {_decoded(contract)}"
    where = f"WHERE {literal(window, 'l.event_time')} AND l.reason IS NULL"
    match contract:
        case EventContract():
            return (
                "CREATE TEMPORARY TABLE staged ON COMMIT DROP AS "
                f"SELECT {columns}, {provenance}, false AS staged_conflicting {source} {where}"
            )
        case RowsContract():
            # Tombstones of a compacted topic have no key.
            return (
                "CREATE TEMPORARY TABLE staged ON COMMIT DROP AS "
                f"SELECT DISTINCT ON (l.event_id) {columns}, {provenance}, false AS staged_conflicting, "
                f"l.event_id AS staged_key, l.event_type = 'd' AS staged_absent, "
                f"{_changed_at(contract)} AS staged_changed_at, {_appended_at(contract)} AS staged_appended_at "
                f"{source} {where} AND l.event_id IS NOT NULL ORDER BY l.event_id, {_newest_first(contract)}"
            )


def drop_outdated(contract: RowsContract, window: TimeWindow) -> str:
    """Return the statement that takes from ``staged`` what is deleted, or newer in another window of the log."""
    newer = (
        f"SELECT 1 FROM {quoted('landing', contract.name)} l {_decoded(contract)} "
        "WHERE l.event_id = s.staged_key AND l.reason IS NULL "
        f"AND NOT ({literal(window, 'l.event_time')}) "
        f"AND ({_changed_at(contract)}, {_appended_at(contract)}, {POSITION}) > "
        f"(s.staged_changed_at, s.staged_appended_at, {', '.join(f's.{name}' for name in PROVENANCE)})"
    )
    return f"DELETE FROM staged s WHERE s.staged_absent OR EXISTS ({newer})"


def copies_in_topics(contract: EventContract) -> str:
    """Return the query for the number of copies in a window of the log that a producer has sent.

    What one incarnation of a topic holds twice was sent twice; what came another way, or was landed again from the
    start of a topic, is no copy of the producer's.
    """
    uuid = contract.column(contract.event_id).type == "uuid"
    event_id = "lower(l.event_id)" if uuid else "l.event_id"
    log = quoted("landing", contract.name)
    return (
        f"SELECT coalesce(sum(c.times - 1), 0) FROM (SELECT count(*) AS times FROM {log} l "
        "JOIN landing.origins o USING (origin_id) WHERE o.kind = 'topic' AND l.reason IS NULL "
        "AND l.event_time >= :window_start AND l.event_time < :window_end "
        f"GROUP BY l.origin_id, {event_id} HAVING count(*) > 1) c"
    )


def key_text(contract: Landed, alias: str) -> str:
    """Return the expression of a staged row's key as the log writes it."""
    return f"{alias}.staged_key" if isinstance(contract, RowsContract) else f"{alias}.{quoted(contract.event_id)}::text"


def dead_letters(contract: Landed) -> str:
    """Return the query for reasons, places and numbers of the dead letters in a window."""
    return (
        f"SELECT reason, coalesce(reason_path, '$'), count(*) FROM {quoted('landing', contract.name)} "
        "WHERE event_time >= :window_start AND event_time < :window_end AND reason IS NOT NULL GROUP BY 1, 2"
    )


def _decoded(contract: Landed, *, good_only: bool = False) -> str:
    """The message as typed columns. `json`, not `jsonb`: faster here, and unknown fields are never converted."""
    image = "convert_from(l.value, 'UTF8')::json"
    if good_only:
        image = f"CASE WHEN l.reason IS NULL THEN {image} END"
    lateral = ""
    if isinstance(contract, RowsContract) and isinstance(contract.origin, ChangeTopic):
        lateral = (
            f"CROSS JOIN LATERAL (SELECT coalesce(m.message -> 'payload', m.message) -> "
            f"CASE l.event_type WHEN 'd' THEN 'before' ELSE 'after' END AS image FROM (SELECT {image} AS message) m) e "
        )
        image = "e.image"
    fields = ", ".join(
        f"{quoted(column.name)} {_json_type(column)}"
        for column in contract.columns
        if column.name != contract.time_column
    )
    return f"{lateral}CROSS JOIN LATERAL json_to_record({image}) AS r ({fields})"


def _json_type(column: Column) -> str:
    # JSON may write a whole number as 1.0 or 1e3, which only numeric reads.
    return "numeric" if column.type == "integer" else column.sql_type


def _value(contract: Landed, column: Column) -> str:
    if column.name == contract.time_column:
        return "l.event_time"
    return f"r.{quoted(column.name)}{'::bigint' if column.type == 'integer' else ''}"


def _changed_at(contract: RowsContract) -> str:
    """What orders the images of one key before their place in the log does."""
    match contract.origin:
        case TableSource(updated_at=name):
            value = "l.event_time" if name == contract.time_column else f"r.{quoted(name)}"
            return f"coalesce({value}, '-infinity'::timestamptz)"
        case ChangeTopic():
            return "'-infinity'::timestamptz"


def _appended_at(contract: RowsContract) -> str:
    """What orders the images of one key that claim the same change: a tombstone repeats that of the image it removes.

    Of a topic the place alone counts: clocks of landers may differ.
    """
    return "l.landed_at" if isinstance(contract.origin, TableSource) else "'-infinity'::timestamptz"


def _newest_first(contract: RowsContract) -> str:
    return (
        f"{_changed_at(contract)} DESC, {_appended_at(contract)} DESC, "
        "l.origin_id DESC, l.partition DESC, l.position DESC"
    )


def known_images(contract: RowsContract) -> str:
    """Return the query for the images that the log has of the keys ``:keys``: of each the newest and the last appended.

    The last appended too: an image that is older by its own time would else be appended again at every extract.
    """
    return (
        "SELECT event_id, value FROM (SELECT l.event_id, l.value, "
        f"row_number() OVER (PARTITION BY l.event_id ORDER BY (l.reason IS NULL) DESC, {_newest_first(contract)}) "
        f"AS newest, row_number() OVER (PARTITION BY l.event_id ORDER BY {_appended_at(contract)} DESC, "
        "l.origin_id DESC, l.partition DESC, l.position DESC) "
        f"AS last_appended FROM {quoted('landing', contract.name)} l {_decoded(contract, good_only=True)} "
        "WHERE l.event_id = ANY (CAST(:keys AS text[]))) i WHERE newest = 1 OR last_appended = 1"
    )


def newest_images(contract: RowsContract) -> str:
    """Return the query for the image that counts of each of the keys ``:keys``, tombstones included."""
    return (
        "SELECT DISTINCT ON (l.event_id) l.event_id, l.event_type, l.event_time, l.landed_at, l.correlation_id, "
        f"l.schema_version, l.value FROM {quoted('landing', contract.name)} l {_decoded(contract, good_only=True)} "
        "WHERE l.event_id = ANY (CAST(:keys AS text[])) AND l.reason IS NULL "
        f"ORDER BY l.event_id, {_newest_first(contract)}"
    )


def tombstoned_keys(contract: RowsContract) -> str:
    """Return the query for the keys that an origin, ``:note``, has removed; whether they are back is not looked at."""
    return (
        f"SELECT DISTINCT l.event_id FROM {quoted('landing', contract.name)} l "
        "JOIN landing.origins o ON o.origin_id = l.origin_id "
        "WHERE o.contract = :dataset AND o.kind = 'correction' AND o.note = :note AND l.event_type = 'd' ORDER BY 1"
    )


def staged_before(contract: RowsContract) -> str:
    """Return the statement that takes from ``staged`` the rows that are not older than ``:settled``."""
    return f"DELETE FROM staged s WHERE s.{quoted(contract.time_column)} >= :settled" if contract.time_column else ""


def staged_without_source(contract: RowsContract) -> str:
    """Return the query for the staged rows not in ``present``: key as the log writes it, then column by column."""
    key = ", ".join(f"s.{quoted(name)}" for name in contract.primary_key)
    return (
        f"SELECT s.staged_key, {key} FROM staged s WHERE NOT EXISTS "
        "(SELECT 1 FROM present p WHERE p.key = s.staged_key) ORDER BY s.staged_key LIMIT :at_most"
    )
