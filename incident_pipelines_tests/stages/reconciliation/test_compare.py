"""Compares tables of PostgreSQL, DuckDB and SQLite against a naive comparison that reads all rows."""

import itertools
import os
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incident_pipelines.adapters.databases.comparison import pair
from incident_pipelines.adapters.databases.comparison.postgres import PostgresTable
from incident_pipelines.adapters.databases.comparison.spooled import SpooledTable
from incident_pipelines.core.reconciliation import digests
from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison, Difference
from incident_pipelines.core.reconciliation.scope import Keys, Scope, TimeRange
from incident_pipelines.stages.reconciliation import compare as compare_stage
from incident_pipelines.stages.reconciliation.compare import Filter, TableRef, compare
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.compared_tables import (
    Engine,
    Postgres,
    Row,
    comparison,
    form,
    naive,
)

pytestmark = pytest.mark.stack

EXAMPLES = int(os.environ.get("COMPARISON_EXAMPLES", "6"))

START = datetime(2026, 3, 1, tzinfo=UTC)
# Values that hashes of engines fold together, leave out or write in several ways stand beside each other.
VALUES: dict[str, list[Any]] = {
    "bigint": [None, 0, 1, 2**32, 2**32 + 1, -1, -(2**32), 2**62],
    "number": [
        None,
        *map(Decimal, ("0", "0.00", "1", "1.00", "1.010000", "-1", "-1.01", "10000", "0.0001", "123456789.5")),
    ],
    "float": [None, 0.0, 0.1, -0.1, 0.30000000000000004, 1e22, 1.5, -1.5],
    "boolean": [None, True, False],
    "instant": [
        None,
        START,
        START + timedelta(hours=1),
        START + timedelta(microseconds=2**32),
        START.replace(microsecond=500000),
    ],
    "naive": [None, START.replace(tzinfo=None), (START + timedelta(microseconds=2**32 - 1)).replace(tzinfo=None)],
    "day": [None, date(2026, 3, 1), date(1999, 12, 31)],
    "uuid": [None, UUID(int=0), UUID(int=2**127 + 5)],
    "text": [None, "", " ", "a", "A", "a|", "1:a", "1", "1.0", "ß", "é", "NULL", "%s {}"],
    "bytes": [None, b"", b"\x00\xff", b"00ff"],
}
COLUMNS = {f"c_{name}": name for name in VALUES}
KEYS = {
    "integer": {"id": "bigint"},
    "decimal": {"id": "number"},
    "text": {"id": "text"},
    "composite": {"id": "bigint", "part": "text", "day": "day"},
    "uuid": {"id": "uuid"},
}


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows go all the way that many rows go."""
    monkeypatch.setattr(digests, "BUCKET_KEYS", 4)
    monkeypatch.setattr(digests, "FINE_KEYS", 2)
    monkeypatch.setattr(compare_stage, "READ_AT_ONCE", 1)


def rows_strategy(key: dict[str, str], columns: dict[str, str]) -> st.SearchStrategy[list[Row]]:
    """Rows whose keys repeat now and then, and are NULL now and then."""
    own_key = st.tuples(
        *(
            st.one_of(st.integers(-40, 400), st.sampled_from(VALUES[type_]))
            if type_ == "bigint"
            else st.sampled_from(VALUES[type_])
            for type_ in key.values()
        )
    )
    values = st.tuples(*(st.sampled_from(VALUES[type_]) for type_ in columns.values()))
    return st.lists(st.tuples(own_key, values).map(lambda pair: pair[0] + pair[1]), max_size=25)


def injected(draw: st.DrawFn, rows: list[Row], key: dict[str, str], columns: dict[str, str]) -> list[Row]:
    """Return the rows with some taken out, added, doubled, and with values of keys and columns changed."""
    changed = [list(row) for row in rows]
    types = [*key.values(), *columns.values()]
    for _ in range(draw(st.integers(0, 6))):
        what = draw(st.sampled_from(["take", "add", "double", "change", "change", "change"]))
        at = draw(st.integers(0, len(changed) - 1)) if changed else None
        if what == "add" or at is None:
            changed.append([draw(st.sampled_from(VALUES[type_])) for type_ in types])
        elif what == "take":
            del changed[at]
        elif what == "double":
            changed.append(list(changed[at]))
        else:
            place = draw(st.integers(0, len(types) - 1))
            changed[at][place] = draw(st.sampled_from(VALUES[types[place]]))
    return draw(st.permutations([tuple(row) for row in changed]))


@pytest.mark.parametrize("key_name", KEYS)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("postgres", "postgres"),
        ("postgres", "duckdb"),
        ("postgres", "sqlite"),
        ("duckdb", "sqlite"),
        ("duckdb", "duckdb"),
        ("sqlite", "sqlite"),
        ("sqlite", "postgres"),
        ("duckdb", "postgres"),
    ],
)
@pytest.mark.usefixtures("small_buckets")
def test_finds_what_was_injected_and_nothing_else(
    engines: dict[str, Engine], left: str, right: str, key_name: str
) -> None:
    key = KEYS[key_name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        rows = data.draw(rows_strategy(key, COLUMNS))
        changed = data.draw(st.composite(injected)(rows, key, COLUMNS))
        found = run(engines[left], engines[right], key, COLUMNS, rows, changed)
        assert found == naive(rows, changed, len(key), list(COLUMNS))

    check()


@pytest.mark.parametrize(
    ("right", "portable"), [("postgres", False), ("postgres", True), ("duckdb", False), ("sqlite", False)]
)
@pytest.mark.parametrize("type_", VALUES)
def test_tells_every_value_from_every_other(
    engines: dict[str, Engine], type_: str, right: str, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pair alone in its bucket: a digest that leaves something out is not helped by its neighbours."""
    monkeypatch.setattr(digests, "BUCKET_KEYS", 1)
    pairs = list(enumerate(itertools.product(VALUES[type_], VALUES[type_])))
    columns = {"id": "bigint", "value": type_}
    source = engines["postgres"].table("pairs_source", columns, [(n, one) for n, (one, _) in pairs], "id")
    target = engines[right].table("pairs_target", columns, [(n, other) for n, (_, other) in pairs], "id")

    found = compare(source, target, comparison(["id"], ["value"]), portable=portable)

    assert [d.key["id"] for d in found] == [n for n, (one, other) in pairs if form(one) != form(other)]


@pytest.mark.usefixtures("small_buckets")
def test_finds_the_same_by_canonical_texts(engines: dict[str, Engine]) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        key = KEYS[data.draw(st.sampled_from(sorted(KEYS)))]
        rows = data.draw(rows_strategy(key, COLUMNS))
        changed = data.draw(st.composite(injected)(rows, key, COLUMNS))
        found = run(engines["postgres"], engines["postgres"], key, COLUMNS, rows, changed, portable=True)
        assert found == naive(rows, changed, len(key), list(COLUMNS))

    check()


def run(
    left: Engine,
    right: Engine,
    key: dict[str, str],
    columns: dict[str, str],
    source_rows: list[Row],
    target_rows: list[Row],
    *,
    portable: bool = False,
    **options: ComparedColumn,
) -> Counter[tuple[str, tuple[Any, ...]]]:
    source = left.table("source_rows", key | columns, source_rows)
    target = right.table("target_rows", key | columns, target_rows)
    compared = compare(source, target, comparison(list(key), list(columns), **options), portable=portable)
    found = tally(list(compared), source_rows, target_rows, len(key))
    assert (compared.counts.source, compared.counts.target) == (len(source_rows), len(target_rows))
    return found


def tally(
    differences: list[Difference], source: list[Row], target: list[Row], key: int
) -> Counter[tuple[str, tuple[Any, ...]]]:
    """Count differences as `naive` does."""
    single = Counter(tuple(map(form, row[:key])) for row in source)
    single_target = Counter(tuple(map(form, row[:key])) for row in target)
    found: Counter[tuple[str, tuple[Any, ...]]] = Counter()
    for difference in differences:
        at = tuple(map(form, difference.key.values()))
        found[difference.kind, at] += 1
        if difference.kind == "mismatched" and single[at] == single_target[at] == 1:
            found.update((name, at) for name in difference.columns)
    assert len({(d.kind, tuple(map(form, d.key.values())), d.occurrence) for d in differences}) == len(differences)
    return found


@pytest.mark.parametrize(("left", "right"), [("postgres", "postgres"), ("postgres", "duckdb"), ("sqlite", "postgres")])
def test_narrows_many_rows_down_by_ranges_of_keys(
    engines: dict[str, Engine], left: str, right: str, rng: random.Random
) -> None:
    columns = {"amount": "number", "note": "text", "at": "instant"}
    rows = [
        (number, Decimal(number % 977) / 100, f"note {number % 13}", START + timedelta(seconds=number))
        for number in range(-5_000, 40_000)
    ]
    changed: dict[int, Row] = {row[0]: row for row in rows}
    for number in rng.sample(range(-5_000, 40_000), 300):
        match number % 3:
            case 0:
                del changed[number]
            case 1:
                changed[number] = (number, -changed[number][1] - 1, *changed[number][2:])
            case _:
                changed[number + 10**12] = (number + 10**12, None, "", None)
    target_rows = list(changed.values())
    rng.shuffle(target_rows)
    source = engines[left].table("many_source", {"id": "bigint"} | columns, rows, primary_key="id")
    target = engines[right].table("many_target", {"id": "bigint"} | columns, target_rows, primary_key="id")

    differences = list(compare(source, target, comparison(["id"], list(columns))))

    assert tally(differences, rows, target_rows, 1) == naive(rows, target_rows, 1, list(columns))
    keys = [difference.key["id"] for difference in differences]
    assert keys == sorted(keys)  # pyright: ignore


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("right", ["postgres", "duckdb", "sqlite"])
@pytest.mark.usefixtures("small_buckets")
def test_tolerance_holds_at_the_edges_of_its_cells(engines: dict[str, Engine], right: str, portable: bool) -> None:
    tolerance = Decimal("0.01")
    pairs = [
        ("0.00", "0.01"), ("0.00", "0.010001"), ("0.0049", "0.0051"), ("-0.004", "0.006"), ("-0.005", "0.005001"),
        ("9.99", "10.00"), ("10.00", "9.989999"), ("1", "-1"), ("0.00", "0.00"), ("100000.015", "100000.025"),
    ]  # fmt: skip
    source = [(number, Decimal(one)) for number, (one, _) in enumerate(pairs)]
    target = [(number, Decimal(other)) for number, (_, other) in enumerate(pairs)]
    expected = {n for n, (one, other) in enumerate(pairs) if abs(Decimal(one) - Decimal(other)) > tolerance}

    found = run(
        engines["postgres"],
        engines[right],
        {"id": "bigint"},
        {"amount": "number"},
        [*source, (99, None)],
        [*target, (99, Decimal(0))],
        portable=portable,
        amount=ComparedColumn("amount", "amount", "amount", tolerance),
    )

    assert {at[0][1] for kind, at in found if kind == "mismatched"} == {*expected, 99}


@pytest.mark.parametrize("portable", [False, True])
def test_what_is_no_number_equals_only_itself(databases: Databases, portable: bool) -> None:
    postgres = Postgres(databases.url("app"))
    postgres.connection.execute("""
        DROP TABLE IF EXISTS odd_source, odd_target;
        CREATE TABLE odd_source (id int, f float8, n numeric, t timestamptz);
        CREATE TABLE odd_target (id int, f float8, n numeric, t timestamptz);
        INSERT INTO odd_source VALUES (1, 'NaN', 'NaN', 'infinity'), (2, 'NaN', 'NaN', '-infinity'),
            (3, '-0', 0, '0044-03-15 00:00+00 BC'), (4, 'Infinity', 'Infinity', '12026-01-01 00:00+00');
        INSERT INTO odd_target VALUES (1, 'NaN', 'NaN', 'infinity'), (2, 'Infinity', 'Infinity', 'infinity'),
            (3, '0', 0.000, '0044-03-15 00:00+00 BC'), (4, '-Infinity', 'NaN', '12026-01-01 00:00+00')""")
    side = TableRef(databases.url("app"), "odd_source"), TableRef(databases.url("app"), "odd_target")

    found = list(compare(*side, comparison(["id"], ["f", "n", "t"]), portable=portable))

    assert sorted((d.key["id"], sorted(d.columns)) for d in found) == [(2, ["f", "n", "t"]), (4, ["f", "n"])]
    postgres.close()


def test_types_that_differ_between_sides_are_compared_by_value(
    engines: dict[str, Engine], databases: Databases
) -> None:
    postgres = engines["postgres"]
    assert isinstance(postgres, Postgres)
    postgres.connection.execute("""
        DROP TABLE IF EXISTS loose, strict;
        CREATE TABLE loose (id text, amount text, flag int, at timestamp, code char(5), body json, ratio real);
        CREATE TABLE strict (id uuid, amount numeric, flag boolean, at timestamptz, code text, body jsonb,
                             ratio float8);
        INSERT INTO loose VALUES
            ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '10.50', 1, '2026-01-01 12:00', 'ab', '{"b":1.0, "a":[ 2]}', 0.1),
            ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '10.5x', 2, '2026-01-01 12:00', 'AB', '{"a": "1"}', 0.1);
        INSERT INTO strict VALUES
            ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 10.5, true, '2026-01-01 14:00+2', 'ab', '{"a":[2.00],"b":1}', .1),
            ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 10.5, true, '2026-01-01 12:00+02', 'ab', '{"a": 1}', 0.2)""")
    columns = ["amount", "flag", "at", "code", "body", "ratio"]

    found = list(
        compare(
            TableRef(databases.url("app"), "loose"),
            TableRef(databases.url("app"), "strict"),
            comparison(["id"], columns),
        )
    )

    assert [(d.kind, sorted(d.columns)) for d in found] == [("mismatched", sorted(columns))]


@pytest.mark.parametrize("right", ["postgres", "duckdb", "sqlite"])
def test_case_is_ignored_only_where_asked(engines: dict[str, Engine], right: str) -> None:
    source = [("A", "Straße", "x"), ("b", "É", "x"), ("c", "İ", "x")]
    target = [("a", "STRASSE", "X"), ("B", "é", "x"), ("c", "i", "x")]
    options = {name: ComparedColumn(name, name, name, ignore_case=True) for name in ("id", "name")}

    columns = {"id": "text", "name": "text", "code": "text"}
    sides = (
        engines["postgres"].table("case_source", columns, source),
        engines[right].table("case_target", columns, target),
    )

    found = list(compare(*sides, comparison(["id"], ["name", "code"], **options)))

    assert sorted((d.key["id"], list(d.columns)) for d in found) == [("a", ["code"]), ("c", ["name"])]  # pyright: ignore


EVENTS = {"id": "bigint", "at": "instant", "note": "text"}


def in_hours(source: list[Row], target: list[Row], engines: dict[str, Engine], right: str, scope: Scope) -> Any:
    column = ComparedColumn("at", "at", "at")
    compared = compare(
        engines["postgres"].table("hours_source", EVENTS, source),
        engines[right].table("hours_target", EVENTS, target),
        Comparison((ComparedColumn("id", "id", "id"),), (column, ComparedColumn("note", "note", "note")), time=column),
        scope,
    )
    found = sorted(((d.kind, d.key["id"], sorted(d.columns)) for d in compared), key=lambda one: str(one[1]))
    return found, compared.counts


@pytest.mark.parametrize("right", ["postgres", "duckdb", "sqlite"])
def test_a_row_of_another_hour_is_mismatched_and_not_missing(engines: dict[str, Engine], right: str) -> None:
    hour = timedelta(hours=1)
    source = [(1, START, "a"), (2, START + hour, "b"), (3, START - hour, "only here"), (4, START, "d"), (5, None, "e")]
    target = [(1, START + hour, "a"), (2, START, "b"), (4, START, "D"), (5, START, "e"), (6, START + 2 * hour, "f")]

    found, counts = in_hours(source, target, engines, right, TimeRange(START, START + hour))

    assert found == [
        ("mismatched", 1, ["at"]), ("mismatched", 2, ["at"]), ("mismatched", 4, ["note"]), ("mismatched", 5, ["at"]),
    ]  # fmt: skip
    assert (counts.source, counts.target) == (2, 3)


@pytest.mark.parametrize("right", ["postgres", "duckdb", "sqlite"])
def test_compares_only_the_keys_that_are_asked_for(engines: dict[str, Engine], right: str) -> None:
    source = [(1, START, "a"), (2, START, "b"), (3, START, "c"), (3, START, "d"), (None, START, "n")]
    target = [(1, START, "A"), (2, START, "B"), (3, START, "c"), (4, START, "e"), (None, START, "N")]

    found, counts = in_hours(source, target, engines, right, Keys(((1,), (3,), (4,), (None,), (77,))))

    assert found == [
        ("mismatched", 1, ["note"]), ("missing", 3, ["at", "note"]), ("unexpected", 4, ["at", "note"]),
        ("mismatched", None, ["note"]),
    ]  # fmt: skip
    assert (counts.source, counts.target) == (4, 4)


def test_no_keys_are_not_all_keys() -> None:
    with pytest.raises(ValueError, match="no keys"):
        Keys(())


@pytest.mark.parametrize("side", ["postgres", "duckdb", "sqlite"])
def test_conditions_choose_rows_on_both_sides(engines: dict[str, Engine], side: str) -> None:
    columns = {"id": "bigint", "status": "text", "at": "instant"}
    rows = [(1, "paid", START), (2, "open", START), (3, "100%", START), (4, None, START), (5, "paid", START)]
    whole = engines["postgres"].table("chosen_source", columns, rows)
    other = engines[side].table("chosen_target", columns, [(n, s, START + timedelta(hours=n == 5)) for n, s, _ in rows])
    chosen = comparison(["id"], ["at"])

    def counted(**conditions: Any) -> tuple[int, int, int]:
        compared = compare(replace(whole, **conditions), replace(other, **conditions), chosen)
        return len(list(compared)), compared.counts.source, compared.counts.target

    assert counted() == (1, 5, 5)
    assert counted(where="status like '1%' -- all") == (0, 1, 1)
    assert counted(filters=(Filter("status", "in", ("paid", "100%")),)) == (1, 3, 3)
    assert counted(filters=(Filter("status", "not_in", ("paid",)), Filter("id", "not_in", (2,)))) == (0, 2, 2)
    query = 'SELECT id AS id, "at" FROM chosen_{} WHERE id <> 5'
    source = replace(whole, table=None, query=query.format("source"))
    assert list(compare(source, replace(other, table=None, query=query.format("target")), chosen)) == []


def test_other_engines_are_read_once_into_a_file(engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(n, Decimal(n) / 100, n % 2 == 0, START + timedelta(seconds=n), UUID(int=n), None) for n in range(2_000)]
    columns = {"id": "bigint", "amount": "number", "even": "boolean", "at": "instant", "ref": "uuid", "none": "text"}
    source = engines["postgres"].table("spooled_source", columns, rows)
    changed = [row if row[0] % 500 else (*row[:1], row[1] + 1, *row[2:]) for row in rows if row[0] != 7]
    target = engines["postgres"].table("spooled_target", columns, changed)
    # PostgreSQL stands for an engine that is known by SQLAlchemy alone.
    monkeypatch.setattr(pair, "open_table", lambda ref, s: (SpooledTable if ref is target else PostgresTable)(ref, s))

    found = list(compare(source, target, comparison(["id"], list(columns)[1:])))

    assert tally(found, rows, changed, 1) == naive(rows, changed, 1, list(columns)[1:])
