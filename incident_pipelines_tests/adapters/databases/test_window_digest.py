"""The digest of a window: any change of any column shows, order and plan do not."""

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.databases.window_digest import can_be_hashed, digest
from incident_pipelines.core.errors import InvalidIdentifier
from incident_pipelines_tests.conftest import Databases

COLUMNS = (
    "id bigint NOT NULL",
    "place integer",
    "name text",
    "other uuid",
    "amount numeric(12,2)",
    "ok boolean",
    "at timestamp with time zone",
    "day date",
)
Row = tuple[Any, ...]
# For each column values of which some look alike: NULL, empty, zero, what stands for NULL inside the digest.
VALUES: tuple[tuple[Any, ...], ...] = (
    (0, 1, -1, 2**32 - 1, 2**32 + 1),  # PostgreSQL's hash of the second pair is one, and of the first and the last
    (None, 0, -1),
    (None, "", "a", "a ", "A"),
    (None, "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"),
    (None, "0", "1.5", "-1.5", "15000", "NaN"),
    (None, False, True),
    (None, "infinity", "2000-01-01 00:00:00+00", "2000-01-01 01:11:34.967297+00"),
    (None, "infinity", "2026-03-10", "2026-03-11"),
)
ROWS = st.lists(st.tuples(*(st.sampled_from(values) for values in VALUES)), max_size=6)

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(driver_url(databases.url("warehouse")), autocommit=True) as connection:
        connection.execute(f"CREATE TEMPORARY TABLE t ({', '.join(COLUMNS)})")  # pyright: ignore[reportArgumentType, reportCallIssue]
        yield connection


def digest_of(connection: psycopg.Connection[Any], rows: list[Row]) -> tuple[int, int | None]:
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", rows)
        cursor.execute(f"SELECT count(*), {digest(COLUMNS, 't')} FROM t")  # pyright: ignore[reportArgumentType, reportCallIssue]
        row = cursor.fetchone()
        assert row
        return row[0], row[1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, others=ROWS, data=st.data())
def test_equal_digests_are_equal_rows(
    connection: psycopg.Connection[Any], rows: list[Row], others: list[Row], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert digest_of(connection, rows) == digest_of(connection, shuffled)
    same = sorted(map(repr, rows)) == sorted(map(repr, others))
    assert (digest_of(connection, rows) == digest_of(connection, others)) == same


def test_every_value_of_every_column_shows(connection: psycopg.Connection[Any]) -> None:
    rows = list(itertools.product(*VALUES))
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"SELECT count(DISTINCT h) FROM (SELECT {digest(COLUMNS, 't')} AS h FROM t GROUP BY t.ctid) d"  # pyright: ignore[reportArgumentType, reportCallIssue]
        )
        assert cursor.fetchone() == (len(rows),)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=ROWS.filter(lambda rows: len(rows) >= 2), column=st.integers(0, len(VALUES) - 1))
def test_a_value_that_changes_places_with_another_rows_shows(
    connection: psycopg.Connection[Any], one: list[Row], column: int
) -> None:
    first, second, *rest = (list(row) for row in one)
    first[column], second[column] = second[column], first[column]
    swapped = [tuple(first), tuple(second), *map(tuple, rest)]
    same = sorted(map(repr, one)) == sorted(map(repr, swapped))
    assert (digest_of(connection, one) == digest_of(connection, swapped)) == same


def test_copies_do_not_cancel_each_other_out(connection: psycopg.Connection[Any]) -> None:
    row = tuple(values[0] for values in VALUES)
    seen = {digest_of(connection, [row] * copies) for copies in range(5)}
    assert len(seen) == 5


def test_more_columns_than_a_mask_of_nulls_holds(connection: psycopg.Connection[Any]) -> None:
    columns = tuple(f"c{number} text" for number in range(150))
    connection.execute(f"CREATE TEMPORARY TABLE wide ({', '.join(columns)})")  # pyright: ignore[reportArgumentType, reportCallIssue]
    seen: set[Any] = set()
    for number in range(150):
        with connection.transaction(force_rollback=True):
            values = ", ".join("NULL" if place == number else "''" for place in range(150))
            connection.execute(f"INSERT INTO wide VALUES ({values})")  # pyright: ignore[reportArgumentType, reportCallIssue]
            row = connection.execute(f"SELECT {digest(columns, 't')} FROM wide t").fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
            assert row
            seen.add(row[0])
    assert len(seen) == 150


def test_a_list_of_columns_from_a_table_is_no_way_in() -> None:
    with pytest.raises(InvalidIdentifier):
        digest(('id") FROM t; -- bigint',), "t")
    with pytest.raises(KeyError):
        digest(("id bigint); DROP TABLE t",), "t")


def test_a_table_must_have_the_columns_with_their_types() -> None:
    table = ["a bigint", "b numeric(12,2)", "c text"]
    assert can_be_hashed(("a bigint NOT NULL", "b numeric(12,2)"), table)
    assert not can_be_hashed(("a integer",), table)
    assert not can_be_hashed(("b numeric(12,4)",), table)
    assert not can_be_hashed(("d text",), table)
