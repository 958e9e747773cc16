"""Somebody deletes rows of a raw hour and of a mart, by hand and with the right to do so."""

from datetime import datetime, timedelta

from psycopg import Connection, sql
from sqlalchemy import make_url

from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.example.databases import connect
from incident_pipelines.example.gameday.drill import CannotRun, Drill
from incident_pipelines.example.gameday.scenario import Fault, Scenario

VISITOR = "gameday_visitor"
"""A role of nobody: a game day makes it, and drops it at the end."""

MIN_ROWS, MAX_ROWS = 20, 60
MIN_HOURS_AGO, MAX_HOURS_AGO = 3, 40


def inject(drill: Drill) -> Fault:
    """Delete some rows as a role that may; the fault is over once they are gone."""
    names = sorted(name for name, one in drill.catalog.landed.items() if isinstance(one, EventContract))
    raw = names[drill.random.randrange(len(names))]
    contract = drill.catalog.landed[raw]
    assert isinstance(contract, EventContract)
    assert contract.time_column
    mart = sorted(name for name, one in drill.catalog.marts.items() if one.contract.correlation_id)[0]
    rows = drill.random.randint(MIN_ROWS, MAX_ROWS)
    hour = hour_of_victims(drill.now(), drill.random.randint(MIN_HOURS_AGO, MAX_HOURS_AGO))
    with drill.warehouse() as connection:
        _make_visitor(connection, drill, ("raw", raw), ("marts", mart))
        found = _count(connection, contract.time_column, ("raw", raw), hour)
        if not found:
            raise CannotRun(f"raw.{raw} has no rows from {hour.start} on that could be deleted; choose another seed")
        drill.report(f"deleting {min(rows, found)} of {found} rows of raw.{raw} of {hour.start:%Y-%m-%d %H:%M} UTC")
    url = make_url(drill.environment["WAREHOUSE_URL"]).set(username=VISITOR, password=None)
    visitor_url = url.render_as_string(hide_password=False)
    with connect(visitor_url, autocommit=True, application="somebody's console") as connection:
        injured_at = drill.now()
        gone = _delete(connection, contract.event_id, contract.time_column, ("raw", raw), hour, rows)
        day = TimeWindow.day_of(hour.start)
        column = drill.catalog.marts[mart].contract.time_column
        assert column
        key = drill.catalog.marts[mart].contract.primary_key[0]
        lost = _delete(connection, key, column, ("marts", mart), day, rows)
        drill.report(
            f"deleted {len(gone)} rows of raw.{raw} and {len(lost)} rows of marts.{mart} of {day.start:%Y-%m-%d}"
        )
    over = drill.now()
    return Fault(
        injured_at=injured_at,
        breached_at=injured_at,
        over_at=over,
        span=TimeWindow(day.start, over + timedelta(days=1)),
        affected={raw: frozenset(gone)},
    )


SCENARIO = Scenario(
    name="accidental-delete",
    summary="Rows of a raw hour and of a mart are deleted by hand; they have to be back, and whoever did it kept out.",
    causes=frozenset({"changed_outside"}),
    inject=inject,
)


def hour_of_victims(now: datetime, hours_ago: int) -> TimeWindow:
    """Return the hour whose rows are deleted: of this month, as far as that has one that is old enough.

    Args:
        hours_ago: how long ago that is, where it is not before this month.
    """
    # The numbers of a month that is over are for a person to change.
    month = TimeWindow.day_of(now).start.replace(day=1)
    youngest = now - MIN_HOURS_AGO * HOUR
    return TimeWindow.hour_of(max(now - hours_ago * HOUR, min(month, youngest)))


def _make_visitor(connection: Connection, drill: Drill, *tables: tuple[str, str]) -> None:
    _drop_visitor(connection)
    visitor = sql.Identifier(VISITOR)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(visitor))
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, visitor))

    def put_back() -> None:
        with drill.warehouse() as other:
            _drop_visitor(other)

    drill.restore.callback(put_back)
    for schema, table in tables:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), visitor))
        connection.execute(sql.SQL("GRANT SELECT, DELETE ON {} TO {}").format(sql.Identifier(schema, table), visitor))


def _drop_visitor(connection: Connection) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (VISITOR,)).fetchone():
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(VISITOR)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(VISITOR)))


def _count(connection: Connection, column: str, table: tuple[str, str], window: TimeWindow) -> int:
    text = sql.SQL("SELECT count(*) FROM {} WHERE {} >= %s AND {} < %s").format(
        sql.Identifier(*table), sql.Identifier(column), sql.Identifier(column)
    )
    row = connection.execute(text, (window.start, window.end)).fetchone()
    return int(row[0]) if row else 0


def _delete(
    connection: Connection, key: str, column: str, table: tuple[str, str], window: TimeWindow, rows: int
) -> list[bytes]:
    text = sql.SQL(
        "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {column} >= %s AND {column} < %s"
        " ORDER BY md5({key}::text) LIMIT %s) RETURNING {key}"
    ).format(table=sql.Identifier(*table), key=sql.Identifier(key), column=sql.Identifier(column))
    return [row[0].bytes for row in connection.execute(text, (window.start, window.end, rows)).fetchall()]
