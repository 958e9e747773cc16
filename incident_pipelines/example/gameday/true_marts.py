"""Marts as they have to be: their SQL over the true events, in a database in which no role of the system connects.

What an event said is read from the producers' outboxes, by its id.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import make_url, text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import MartContract
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.example.databases import connect
from incident_pipelines.example.gameday.drill import Drill

DATABASE = "ground_truth"

Ids = frozenset[bytes]


def differing_marts(drill: Drill, known: Mapping[str, Ids], span: TimeWindow) -> Iterator[tuple[str, datetime, int]]:
    """Yield how many rows of each day of each mart differ from the mart's SQL over the truth less the stated loss.

    Args:
        known: ids of the events that the marts are to be made from, by dataset.
    """
    inputs = {name for mart in drill.catalog.marts.values() for name in mart.contract.inputs}
    with truth_database(drill.environment["WAREHOUSE_URL"]) as url:
        with connect(url, application="game day") as target:
            for name in sorted(inputs):
                _fill_raw(drill, target, name, known[name], span)
        engine = postgres_engine(url, "game day", pool_size=1)
        published = postgres_engine(drill.environment["WAREHOUSE_URL"], "game day", pool_size=1)
        try:
            with engine.connect() as truth, published.connect() as warehouse:
                for mart in drill.catalog.marts.values():
                    for day in TimeWindow(span.start, span.end).split(DAY):
                        window = TimeWindow.day_of(day.start)
                        if window.start < span.start:
                            continue
                        expected = _rows(truth, _expected(mart.contract, mart.sql), window, mart.contract)
                        actual = _rows(warehouse, _published(mart.contract), window, mart.contract)
                        yield mart.contract.name, window.start, _differing(mart.contract, expected, actual)
        finally:
            engine.dispose()
            published.dispose()


@contextmanager
def truth_database(owner_url: str) -> Iterator[str]:
    """Give a database of our own, in which nobody but the owner of the server may connect; dropped afterwards.

    Args:
        owner_url: of another database of the server, as its owner.
    """
    base = make_url(owner_url)
    with connect(owner_url, autocommit=True, application="game day") as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(DATABASE)))
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DATABASE)))
    try:
        yield base.set(database=DATABASE).render_as_string(hide_password=False)
    finally:
        with connect(owner_url, autocommit=True, application="game day") as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))


def _fill_raw(drill: Drill, target: psycopg.Connection, name: str, known: Ids, span: TimeWindow) -> None:
    contract = drill.catalog.landed[name]
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(one.name), sql.SQL(one.sql_type))  # pyright: ignore[reportArgumentType]
        for one in contract.columns
    )
    table = sql.Identifier("raw", name)
    target.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS raw"))
    target.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
    target.execute("CREATE TEMPORARY TABLE sent (event_id uuid, value bytea) ON COMMIT DROP")
    with target.cursor().copy("COPY sent FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["uuid", "bytea"])
        for event_id, value in _outbox(drill, name, span):
            if event_id.bytes in known:
                copy.write_row((event_id, value))
    target.execute(
        sql.SQL(
            "INSERT INTO {table} SELECT r.* FROM sent, jsonb_populate_record(NULL::{table}, "
            "convert_from(value, 'UTF8')::jsonb) r"
        ).format(table=table)
    )
    for column in ("correlation_id", "created_at"):
        target.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, sql.Identifier(column)))
    target.commit()
    target.execute(sql.SQL("ANALYZE {}").format(table))
    target.commit()


def _outbox(drill: Drill, topic: str, span: TimeWindow) -> Iterator[tuple[UUID, bytes]]:
    for url in (drill.settings.app_url, drill.settings.billing_url):
        with (
            connect(url, application="game day") as connection,
            connection.cursor(name="outbox", binary=True) as cursor,
        ):
            cursor.itersize = 20_000
            cursor.execute(
                "SELECT event_id, value FROM outbox WHERE topic = %s AND created_at >= %s AND created_at < %s",
                (topic, span.start, span.end),
            )
            yield from cursor


def _expected(contract: MartContract, select: str) -> str:
    columns = ", ".join(
        f"CAST(m.{quoted(one.name)} AS {one.sql_type}) AS {quoted(one.name)}" for one in contract.columns
    )
    return f"SELECT {columns} FROM ({select.strip().rstrip(';')}\n) m"


def _published(contract: MartContract) -> str:
    columns = ", ".join(quoted(one.name) for one in contract.columns)
    assert contract.time_column
    day = quoted(contract.time_column)
    return (
        f"SELECT {columns} FROM {quoted('marts', contract.name)} "
        f"WHERE {day} = CAST(CAST(:window_start AS timestamptz) AT TIME ZONE 'UTC' AS date) "
        "AND CAST(:window_end AS timestamptz) IS NOT NULL AND CAST(:reach_end AS timestamptz) IS NOT NULL"
    )


def _rows(connection: Any, statement: str, window: TimeWindow, contract: MartContract) -> list[tuple[Any, ...]]:
    values = {
        "window_start": window.start,
        "window_end": window.end,
        "reach_end": window.end + contract.reach_days * DAY,
    }
    wanted = {name: value for name, value in values.items() if f":{name}" in statement}
    return [tuple(row) for row in connection.execute(text(statement), wanted)]


def _differing(contract: MartContract, expected: Sequence[tuple[Any, ...]], actual: Sequence[tuple[Any, ...]]) -> int:
    """Return how many keys have no row, one too many, or another one."""
    places = [next(n for n, one in enumerate(contract.columns) if one.name == name) for name in contract.primary_key]

    def by_key(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        return {tuple(row[place] for place in places): row for row in rows}

    left, right = by_key(expected), by_key(actual)
    return sum(1 for key in left.keys() | right.keys() if left.get(key) != right.get(key))
