"""Originals come out of any database as they were put in, whatever types their columns have."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url

from incident_pipelines.adapters.databases import originals
from incident_pipelines.adapters.databases.originals import stream_originals
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

AT = datetime(2026, 3, 1, 9, 0, 0, 123_999, tzinfo=UTC)
AT_MS = 1_772_355_600_123
VALUE = '{"a": "back\\\\slash \\u00e4 %", "b": "ä"}'


@pytest.mark.stack
@pytest.mark.parametrize("time", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("value", ["text", "bytea", "json"])
@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("uuid", "0d1f0000-0000-0000-0000-000000000001", b"0d1f0000-0000-0000-0000-000000000001"),
        ("text", "k\\x41 ö", "k\\x41 ö".encode()),
        ("bytea", b"\x00\xff", b"\x00\xff"),
        ("bigint", 7, b"7"),
        ("text", None, None),
    ],
)
def test_postgresql_gives_bytes_as_they_were_kept(
    own_databases: Databases, time: str, value: str, key: str, given: object, expected: bytes | None
) -> None:
    url = own_databases.url("app")
    query(url, f"CREATE TABLE kept (event_id bigint, at {time}, key {key}, value {value})")
    instant = AT if time == "timestamptz" else AT.replace(tzinfo=None)
    query(url, "INSERT INTO kept VALUES (1, %s, %s, %s)", instant, given, VALUE.encode() if value == "bytea" else VALUE)
    query(url, "INSERT INTO kept VALUES (2, NULL, NULL, NULL)")
    statement = (
        "SELECT key, value, at AS event_time, event_id, 'more' AS more FROM kept\n"
        "WHERE event_id < :window_end AND 'a%b' LIKE 'a%' ORDER BY event_id -- 100 %"
    )
    found = list(stream_originals(url, "shop", statement, {"window_end": 9, "window_start": 0}))
    assert found == [("1", AT_MS, expected, VALUE.encode()), ("2", None, None, None)]


@pytest.mark.stack
def test_all_rows_come_in_their_order_and_more_than_one_page_of_them(
    own_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "FETCHED_ROWS", 7)
    statement = (
        "SELECT n AS event_id, CAST('x' AS text) AS event_time, NULL AS key, n AS value "
        "FROM generate_series(1, 50) n ORDER BY n DESC"
    )
    found = list(stream_originals(own_databases.url("app"), "shop", statement, {}))
    assert found == [(str(n), None, None, str(n).encode()) for n in range(50, 0, -1)]


@pytest.mark.stack
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT 1 AS event_id", 'column "event_time" does not exist'),
        ("SELECT 1 / 0 AS event_id, now() AS event_time, '' AS key, '' AS value", "division by zero"),
        ("DELETE FROM outbox", "syntax error"),
        (
            "WITH gone AS (DELETE FROM outbox RETURNING 1) SELECT 1 AS event_id, now() AS event_time, 1 AS key, "
            "1 AS value FROM gone",
            "WITH clause containing a data-modifying statement must be at the top level",
        ),
    ],
)
def test_what_is_no_select_of_originals_is_told(own_databases: Databases, statement: str, told: str) -> None:
    query(own_databases.url("app"), "CREATE TABLE IF NOT EXISTS outbox (event_id bigint)")
    with pytest.raises(SourceUnavailable, match=f"shop database cannot be read: .*{told}"):
        list(stream_originals(own_databases.url("app"), "shop", statement, {}))


def test_another_database_gives_the_same(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE kept (event_id text, key text, value blob)")
        connection.execute("INSERT INTO kept VALUES ('e', 'k', ?), ('f', NULL, NULL)", [VALUE.encode()])
    connection.close()
    statement = "SELECT value, key, event_id, NULL AS event_time FROM kept ORDER BY event_id"
    found = list(stream_originals(f"sqlite:///{tmp_path / 'shop.db'}", "shop", statement, {}))
    assert found == [("e", None, b"k", VALUE.encode()), ("f", None, None, None)]


@pytest.mark.stack
def test_another_driver_of_postgresql_gives_documents_as_json(own_databases: Databases) -> None:
    url = make_url(own_databases.url("app")).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    statement = f"SELECT 1 AS event_id, NULL AS event_time, 2 AS key, CAST('{VALUE}' AS json) AS value"
    ((event_id, at, key, value),) = stream_originals(url, "shop", statement, {})
    assert (event_id, at, key) == ("1", None, b"2")
    assert value is not None
    assert json.loads(value) == json.loads(VALUE)
