"""How sides are read: what is wrong is said, one that is down is no difference, and nothing is left open."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines.adapters.databases.comparison.table import CHUNK_ROWS
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison, InvalidComparison
from incident_pipelines.core.reconciliation.scope import TimeRange
from incident_pipelines.stages.reconciliation.compare import TableRef, compare
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import wait_for
from incident_pipelines_tests.stages.compared_tables import Engine, Postgres, comparison

pytestmark = pytest.mark.stack

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("engine", ["postgres", "duckdb", "sqlite"])
def test_what_is_wrong_is_said_with_what_there_is(engines: dict[str, Engine], engine: str) -> None:
    table = engines[engine].table("told", {"id": "bigint", "amount": "number", "note": "text"}, [(1, Decimal(1), "a")])

    def error(side: TableRef, key: str = "id", **options: ComparedColumn) -> str:
        with pytest.raises(InvalidComparison) as raised:
            list(compare(table, side, comparison([key], list(options), **options)))
        return str(raised.value)

    assert "did you mean amount? (it has id, amount, note)" in error(table, "amuont")
    assert "does not exist" in error(replace(table, table="missing"))
    assert "told" in error(replace(table, table="missing"))
    assert "which has no tolerance" in error(table, note=ComparedColumn("note", "note", "note", Decimal(1)))
    assert "has no case" in error(table, amount=ComparedColumn("amount", "amount", "amount", ignore_case=True))
    assert "cannot be read" in error(replace(table, where="nonsense ( 1"))


def test_a_side_that_is_down_is_no_difference(databases: Databases, tmp_path: Path) -> None:
    sides = [
        TableRef("postgresql://someone:secret@127.0.0.1:1/nowhere", "t"),
        TableRef(f"sqlite:///{tmp_path}/none.sqlite", "t"),
        TableRef(f"duckdb:///{tmp_path}/none.duckdb", "t"),
    ]
    for side in sides:
        with pytest.raises(SourceUnavailable) as raised:
            list(compare(side, side, comparison(["id"], [])))
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("engine", ["postgres", "duckdb", "sqlite"])
def test_a_side_that_takes_too_long_is_unavailable(engines: dict[str, Engine], engine: str) -> None:
    table = engines[engine].table("slow", {"id": "bigint"}, [(1,)])
    numbers = "generate_series(1, 10000000000) AS s(n)"
    if engine == "sqlite":
        numbers = "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT n FROM s)"
    endless = replace(table, where=f"(SELECT count(*) FROM {numbers} WHERE n < 0) = id")

    with pytest.raises(SourceUnavailable, match="did not answer within"):
        list(compare(endless, table, comparison(["id"], []), statement_timeout_seconds=0.3))


def test_reads_only_and_leaves_nothing_open(engines: dict[str, Engine], databases: Databases) -> None:
    postgres = engines["postgres"]
    assert isinstance(postgres, Postgres)
    table = postgres.table("looked_at", {"id": "bigint"}, [(1,), (2,)])
    postgres.connection.execute("CREATE OR REPLACE FUNCTION spoil(bigint) RETURNS bigint LANGUAGE sql AS "
                                "'DELETE FROM looked_at WHERE id = $1 RETURNING id'")  # fmt: skip

    with pytest.raises(InvalidComparison, match="read-only transaction"):
        list(compare(replace(table, where="spoil(id) > 0"), table, comparison(["id"], [])))
    seen = iter(compare(table, replace(table, where="id < 2"), comparison(["id"], [])))
    assert next(seen).key == {"id": 2}
    seen.close()  # pyright: ignore

    assert postgres.connection.execute("SELECT count(*) FROM looked_at").fetchone() == (2,)
    at_work = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'incident-pipelines compare' "
        "AND datname = current_database() AND state <> 'idle'"
    )
    # The server takes its time to notice that a client has gone.
    wait_for(lambda: not postgres.connection.execute(at_work).fetchall(), "no comparison is left open", 10)


def test_sides_are_read_in_one_snapshot(engines: dict[str, Engine]) -> None:
    postgres = engines["postgres"]
    assert isinstance(postgres, Postgres)
    rows = [(number, "a") for number in range(1_000)]
    columns = {"id": "bigint", "note": "text"}
    source = postgres.table("still_source", columns, rows, primary_key="id")
    target = postgres.table("still_target", columns, [(n, "b" if n % 2 else "a") for n, _ in rows], primary_key="id")

    seen = iter(compare(source, target, comparison(["id"], ["note"])))
    first = next(seen)
    postgres.connection.execute("DELETE FROM still_target")

    assert [first.key["id"], *(d.key["id"] for d in seen)] == [n for n, _ in rows if n % 2]


def test_more_may_differ_in_a_window_than_a_side_gives_at_once(engines: dict[str, Engine]) -> None:
    """Keys are compared whole while the sides are still giving rows: neither may wait for the other."""
    columns = {"id": "bigint", "note": "text", "at": "instant"}
    rows = [(number, "a", START + timedelta(milliseconds=number)) for number in range(2 * 5 * CHUNK_ROWS)]
    source = engines["postgres"].table("full_source", columns, rows, primary_key="id")
    target = engines["postgres"].table("full_target", columns, [(n, "b", at) for n, _, at in rows], primary_key="id")
    at = ComparedColumn("at", "at", "at")
    timed = Comparison((ComparedColumn("id", "id", "id"),), (at, ComparedColumn("note", "note", "note")), time=at)

    found = compare(source, target, timed, TimeRange(START, START + timedelta(hours=1)))

    assert sum(1 for _ in found) == len(rows)


def test_two_comparisons_at_once_do_not_disturb_each_other(engines: dict[str, Engine]) -> None:
    columns = {"id": "bigint", "note": "text"}
    source = engines["postgres"].table("twice_source", columns, [(n, "a") for n in range(3_000)])
    target = engines["sqlite"].table("twice_target", columns, [(n, "b" if n % 100 == 0 else "a") for n in range(3_000)])

    def keys() -> list[Any]:
        return sorted(d.key["id"] for d in compare(source, target, comparison(["id"], ["note"])))  # pyright: ignore

    with ThreadPoolExecutor(3) as pool:
        results = [future.result() for future in [pool.submit(keys) for _ in range(3)]]

    assert results == [list(range(0, 3_000, 100))] * 3
