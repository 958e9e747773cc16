import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from incident_pipelines.core.errors import CheckError, InvalidDocument, SourceUnavailable, WindowOwned, WindowRefused
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication import publish as publish_stage
from incident_pipelines.stages.publication.publish import publish_window, suite_of
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import Shop, close_shop, ids, instant, open_shop, order, payment

pytestmark = pytest.mark.stack


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    shop.plans("basic")
    yield shop
    close_shop(shop)


def published(shop: Shop, table: str = "raw.orders", columns: str = "order_id") -> set[Any]:
    return ids(shop.rows(f"SELECT {columns} FROM {table}"))


def settle(shop: Shop, rounds: int = 6) -> int:
    """Refresh until nothing is stale; returns the number of rounds it took."""
    for number in range(rounds):
        if not stale_windows(shop.warehouse, shop.catalog):
            return number
        list(refresh(shop.warehouse, shop.catalog, owner="tester"))
    raise AssertionError(f"still stale after {rounds} rounds: {stale_windows(shop.warehouse, shop.catalog)}")


def test_an_hour_is_typed_deduplicated_and_numbered(shop: Shop) -> None:
    twice = order("a", "10T10:15", pieces=3, note="é")
    shop.append("orders", twice, order("b", "10T10:59", amount=1), order("c", "10T11:00"))
    shop.append("orders", {**twice, "more": {"unknown": [1]}}, b"not json")
    done = shop.publish("orders", "10T10")
    assert (done.rows, done.changed_rows, done.duplicates, done.quarantined) == (2, 2, 1, 0)
    assert done.window == TimeWindow(instant("10T10"), instant("10T11"))
    assert [(span.first_position, span.last_position) for span in done.offsets] == [(0, 3)]
    assert shop.rows(
        "SELECT order_id, amount, pieces, note, occurred_at, landing_position FROM raw.orders ORDER BY 1"
    ) == [
        ("a", Decimal("9.99"), 3, "é", instant("10T10:15"), 0),
        ("b", Decimal("1.00"), 1, None, instant("10T10:59"), 1),
    ]
    assert all(result.passed for result in done.results)


def test_the_first_copy_wins_wherever_it_comes_from(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"), kind="history")
    shop.append("orders", order("a", "10T10"), order("b", "10T10"), kind="recovery")
    shop.append("orders", order("b", "10T10"), kind="history")
    shop.publish("orders", "10T10")
    assert shop.rows(
        "SELECT order_id, kind, landing_position FROM raw.orders JOIN landing.origins ON origin_id = landing_origin_id "
        "ORDER BY 1"
    ) == [("a", "history", 0), ("b", "history", 1)]


def test_a_second_run_changes_nothing_and_mends_what_was_altered(shop: Shop) -> None:
    shop.append("orders", *(order(f"o{n}", "10T10", amount=n) for n in range(50)))
    assert shop.publish("orders", "10T10").changed_rows == 50
    assert shop.publish("orders", "10T10").changed_rows == 0
    before = shop.rows("SELECT * FROM raw.orders ORDER BY order_id")
    shop.execute("UPDATE raw.orders SET amount = 1000 WHERE order_id = 'o1'")
    shop.execute("DELETE FROM raw.orders WHERE order_id = 'o2'")
    shop.execute("UPDATE raw.orders SET occurred_at = occurred_at + interval '1 day' WHERE order_id = 'o3'")
    shop.execute("UPDATE raw.orders SET event_id = gen_random_uuid() WHERE order_id = 'o4'")
    shop.execute("UPDATE raw.orders SET landing_position = 7000 WHERE order_id = 'o5'")
    # The new id is deleted, the old one inserted; the row of another day is deleted and put back.
    assert shop.publish("orders", "10T10").changed_rows == 7
    assert shop.rows("SELECT * FROM raw.orders ORDER BY order_id") == before
    assert shop.publish("orders", "10T10").changed_rows == 0


def test_copies_that_disagree_are_all_quarantined(shop: Shop) -> None:
    good = [order(f"o{n}", "10T10") for n in range(4)]
    shop.append("orders", *good, order("x", "10T10"), order("x", "10T10", amount=1), order("x", "10T10"))
    done = shop.publish("orders", "10T10")
    assert (done.rows, done.quarantined, done.duplicates) == (4, 3, 0)
    assert "x" not in published(shop)
    assert shop.rows("SELECT key, position, reasons, correlation_id FROM landing.quarantine ORDER BY position") == [
        (order("x", "10T10")["event_id"], position, ["conflicting_copies"], "x") for position in (4, 5, 6)
    ]
    assert shop.publish("orders", "10T10").changed_rows == 0


@pytest.mark.parametrize("first", ["10T10", "12T08"])
def test_copies_in_two_hours_are_quarantined_whichever_comes_first(shop: Shop, first: str) -> None:
    second = {"10T10": "12T08", "12T08": "10T10"}[first]
    for at in (first, second):
        shop.append("orders", order("x", at), *(order(f"{at}-{n}", at) for n in range(3)))
    assert shop.publish("orders", first).rows == 4
    assert shop.publish("orders", second).quarantined == 1
    assert ("orders", TimeWindow.hour_of(instant(first))) in stale_windows(shop.warehouse, shop.catalog)
    assert settle(shop) <= 2
    assert "x" not in published(shop)
    assert len(published(shop)) == 6
    assert sorted(shop.rows("SELECT window_start, reasons FROM landing.quarantine")) == [
        (instant("10T10"), ["conflicting_copies"]),
        (instant("12T08"), ["conflicting_copies"]),
    ]
    assert shop.publish("orders", first).changed_rows == shop.publish("orders", second).changed_rows == 0
    assert stale_windows(shop.warehouse, shop.catalog) == []


def test_a_copy_withheld_for_another_reason_conflicts_as_well(shop: Shop) -> None:
    good = [order(f"o{n}", "10T10") for n in range(3)] + [order(f"p{n}", "11T10") for n in range(3)]
    shop.append("orders", *good, order("x", "10T10"), order("x", "11T10", plan_id="unknown"))
    settle(shop)
    assert len(published(shop)) == 6
    assert sorted(shop.rows("SELECT window_start, reasons FROM landing.quarantine")) == [
        (instant("10T10"), ["conflicting_copies"]),
        (instant("11T10"), ["conflicting_copies", "plan_id_exists_in_plans"]),
    ]


def test_dead_letters_count_for_the_rule_they_break(shop: Shop) -> None:
    missing = order("m", "10T10")
    del missing["amount"]
    shop.append(
        "orders",
        order("a", "10T10"),
        order("b", "10T10"),
        missing,
        order("n", "10T10", amount=-1),
        order("t", "10T10", event_type="burnt"),
        order("u", "10T10", plan_id=None),
    )
    done = shop.publish("orders", "10T10")
    broken = {result.rule: (result.unexpected, result.rows) for result in done.results if result.unexpected}
    assert broken == {
        "amount_is_present": (1, 6),
        "amount_is_at_least_0": (1, 6),
        "event_type_is_allowed": (1, 6),
        "plan_id_is_present": (1, 6),
    }
    assert (done.rows, done.dead_letters, done.quarantined) == (2, 4, 0)


def test_a_refused_window_keeps_what_was_published_and_tells_once(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    shop.publish("orders", "10T10")
    shop.append("orders", *(order(f"bad{n}", "10T10", plan_id="unknown") for n in range(3)))
    with pytest.raises(WindowRefused, match="plan_id_exists_in_plans: 3 of 4 rows"):
        shop.publish("orders", "10T10")
    assert published(shop) == {"a"}
    state = "SELECT state, failed_rules, version FROM publication.windows WHERE dataset = 'orders'"
    assert shop.rows(state) == [("refused", ["plan_id_exists_in_plans"], 2)]
    assert stale_windows(shop.warehouse, shop.catalog) == [
        ("order_states", TimeWindow.day_of(instant("10"))),
        ("turnover", TimeWindow.day_of(instant("10"))),
        ("turnover", TimeWindow.day_of(instant("9"))),
    ]
    with pytest.raises(WindowRefused):
        shop.publish("orders", "10T10")
    facts = shop.rows("SELECT kind, dataset, window_start, detail FROM landing.facts")
    assert [fact[:3] for fact in facts] == [("window_refused", "orders", instant("10T10"))]
    assert facts[0][3]["failed_rules"][0]["unexpected"] == 3
    assert shop.rows(
        "SELECT passed, unexpected FROM publication.checks WHERE dataset = 'orders' AND rule LIKE 'plan_id_exists%'"
    ) == [(False, 3)]
    shop.append("orders", *(order(f"more{n}", "10T10") for n in range(5)))
    assert shop.publish("orders", "10T10").rows == 6
    assert shop.rows(state)[0][0] == "published"


def test_a_reference_that_appears_frees_what_waited_for_it(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"), order("q", "10T10", plan_id="new"))
    shop.append("orders", order("r", "11T10", plan_id="new"))
    assert shop.publish("orders", "10T10").quarantined == 1
    with pytest.raises(WindowRefused):
        shop.publish("orders", "11T10")
    shop.plans("new")
    stale = {window.start for dataset, window in stale_windows(shop.warehouse, shop.catalog) if dataset == "orders"}
    assert stale == {instant("10T10"), instant("11T10")}
    settle(shop)
    assert published(shop) == {"a", "q", "r"}
    assert shop.rows("SELECT * FROM landing.quarantine") == []


def test_without_its_expectation_bad_data_is_published(shop: Shop) -> None:
    shop.append("orders", *(order(f"bad{n}", "10T10", plan_id="unknown") for n in range(3)))
    with pytest.raises(WindowRefused):
        shop.publish("orders", "10T10")
    suite = suite_of(shop.catalog.landed["orders"]).suite
    (expectation,) = [e for e in suite.expectations if e.rule == "plan_id_exists_in_plans"]  # pyright: ignore[reportAttributeAccessIssue]
    suite.delete_expectation(expectation)
    try:
        assert shop.publish("orders", "10T10").rows == 3
    finally:
        suite_of.cache_clear()
    with pytest.raises(WindowRefused):
        shop.publish("orders", "10T10")


def test_a_check_that_breaks_is_no_verdict(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.append("orders", order("a", "10T10"))

    class Broken:
        def validate(self, _: object) -> None:
            raise CheckError("the library is gone")

    monkeypatch.setattr(publish_stage, "suite_of", lambda _: Broken())
    with pytest.raises(CheckError):
        shop.publish("orders", "10T10")
    assert shop.rows("SELECT 1 FROM publication.windows WHERE dataset = 'orders'") == []
    assert published(shop) == set()


def test_the_owner_of_a_window_is_named(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    with shop.warehouse.connect() as held, held.begin():
        held.execute(text("LOCK TABLE raw.orders IN ACCESS EXCLUSIVE MODE"))
        failed: list[BaseException] = []

        def first() -> None:
            try:
                window = TimeWindow.hour_of(instant("10T10"))
                publish_window(shop.warehouse, shop.catalog, "orders", window, owner="backfill 42")
            except BaseException as error:
                failed.append(error)

        owner = threading.Thread(target=first)
        owner.start()
        wait_until_waiting(shop, "backfill 42")
        with pytest.raises(WindowOwned, match=r"orders 2026-03-10T10:00:00\+00:00 is being published by backfill 42"):
            shop.publish("orders", "10T10", wait_seconds=0)
        with pytest.raises(WindowOwned, match="backfill 42"):
            shop.publish("orders", "10T10", wait_seconds=0.2)
    owner.join(30)
    assert not failed
    assert shop.publish("orders", "10T10").changed_rows == 0


def wait_until_waiting(shop: Shop, application: str) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'"
    while not shop.rows(query, name=application):
        assert datetime.now(UTC) < deadline, f"{application} never waited"


def test_a_waiting_publish_goes_on_when_the_owner_is_done(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    results: list[int] = []

    def publish(owner: str) -> None:
        window = TimeWindow.hour_of(instant("10T10"))
        results.append(publish_window(shop.warehouse, shop.catalog, "orders", window, owner=owner).changed_rows)

    threads = [threading.Thread(target=publish, args=(f"run {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 0, 0, 1]


def test_readers_see_the_old_or_the_new_window(shop: Shop) -> None:
    shop.append("orders", *(order(f"o{n}", "10T10", note="old") for n in range(500)))
    shop.publish("orders", "10T10")
    stop = threading.Event()
    seen: list[tuple[Any, ...]] = []
    query = text(
        "SELECT count(*), count(*) FILTER (WHERE amount = 1), (SELECT count(*) FROM raw.orders WHERE amount = 1) "
        "FROM raw.orders WHERE occurred_at >= '2026-03-10 10:00+00' AND occurred_at < '2026-03-10 11:00+00'"
    )

    def read(isolation: str) -> None:
        with shop.warehouse.connect().execution_options(isolation_level=isolation) as connection:
            while not stop.is_set():
                with connection.begin():
                    first = tuple(connection.execute(query).one())
                    second = tuple(connection.execute(query).one())
                seen.append(first)
                if isolation == "REPEATABLE READ":
                    assert first == second

    readers = [threading.Thread(target=read, args=(level,)) for level in ("READ COMMITTED", "REPEATABLE READ")]
    for reader in readers:
        reader.start()
    for _ in range(5):
        shop.execute("UPDATE raw.orders SET amount = 1", confirmed="raw.orders")
        assert shop.publish("orders", "10T10").changed_rows == 500
    stop.set()
    for reader in readers:
        reader.join(30)
    assert set(seen) == {(500, 0, 0), (500, 500, 500)}


def test_two_hours_that_fight_for_one_id_at_once_both_end_well(shop: Shop) -> None:
    shared = [order(f"x{n}", "10T10") for n in range(20)]
    there = [order(f"x{n}", "11T10") for n in range(20)]
    shop.append("orders", *shared, *(order(f"a{n}", "10T10") for n in range(40)))
    shop.append("orders", *reversed(there), *(order(f"b{n}", "11T10") for n in range(40)))
    failures: list[BaseException] = []

    def publish(at: str) -> None:
        try:
            shop.publish("orders", at)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(at,)) for at in ("10T10", "11T10")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    settle(shop)
    assert len(published(shop)) == 80
    assert shop.rows("SELECT count(*) FROM landing.quarantine") == [(40,)]


def test_rows_keep_the_newest_image_of_each_key(shop: Shop) -> None:
    shop.append(
        "payments",
        payment(1, "10T10", "10T12", amount=2),
        payment(1, "10T10", "10T11", amount=1),
        payment(2, "10T10", "10T11", transaction_id=None, due=None, settled=None),
        payment(2, "10T10", "10T11", transaction_id=None, settled=False),
    )
    done = shop.publish("payments", "10T10")
    assert (done.rows, done.changed_rows) == (2, 2)
    assert shop.rows("SELECT payment_id, amount, settled, due, landing_position FROM raw.payments ORDER BY 1") == [
        (1, Decimal("2.00"), True, date(2026, 4, 1), 0),
        (2, Decimal("5.25"), False, date(2026, 4, 1), 3),
    ]


@pytest.mark.parametrize("order_of_windows", [("10T10", "11T09"), ("11T09", "10T10")])
def test_a_row_whose_creation_moved_is_where_the_newest_image_says(
    shop: Shop, order_of_windows: tuple[str, str]
) -> None:
    shop.append("payments", payment(1, "10T10", "10T11"), payment(2, "10T10", "10T11"))
    shop.publish("payments", "10T10")
    shop.append("payments", payment(1, "11T09", "12T11"))
    for at in order_of_windows:
        shop.publish("payments", at)
    settle(shop)
    assert shop.rows("SELECT payment_id, created_at FROM raw.payments ORDER BY 1") == [
        (1, instant("11T09")),
        (2, instant("10T10")),
    ]


def test_unique_columns_are_looked_for_in_other_windows(shop: Shop) -> None:
    shop.append("payments", payment(1, "10T10", "10T11", transaction_id="same"))
    shop.publish("payments", "10T10")
    shop.append("payments", payment(2, "11T10", "11T11", transaction_id="same"), payment(3, "11T10", "11T11"))
    assert shop.publish("payments", "11T10").quarantined == 1
    assert shop.rows("SELECT key, reasons FROM landing.quarantine") == [("2", ["transaction_id_is_unique"])]
    shop.append("payments", payment(1, "10T10", "13T11", transaction_id="another"))
    settle(shop)
    assert published(shop, "raw.payments", "payment_id") == {1, 2, 3}
    shop.append("payments", payment(4, "12T10", "12T11", transaction_id="twin"), payment(6, "12T10", "12T11"))
    shop.append("payments", payment(5, "12T10", "12T11", transaction_id="twin"), payment(7, "12T10", "12T11"))
    assert shop.publish("payments", "12T10").quarantined == 2


def test_changes_from_a_topic_end_with_the_last(shop: Shop) -> None:
    def change(op: str, pieces: int, item: str = "cup", **envelope: Any) -> dict[str, Any]:
        row = {"item": item, "shelf": 4, "pieces": pieces, "created_at": instant("10T10").isoformat()}
        return {"op": op, "before": row if op == "d" else None, "after": None if op == "d" else row, **envelope}

    shop.append("stock", change("c", 1), {"schema": {}, "payload": change("u", 2)}, change("c", 9, "pan"))
    assert shop.publish("stock", "10T10").rows == 2
    assert shop.rows("SELECT item, shelf, pieces FROM raw.stock ORDER BY 1") == [("cup", 4, 2), ("pan", 4, 9)]
    shop.append("stock", {"payload": change("d", 2)})
    assert shop.publish("stock", "10T10").changed_rows == 1
    assert published(shop, "raw.stock", "item") == {"pan"}
    shop.append("stock", change("r", 5))
    assert shop.publish("stock", "10T10").changed_rows == 1


def test_a_late_event_makes_exactly_its_mart_days_stale(shop: Shop) -> None:
    shop.append(
        "orders", order("a", "10T10"), order("b", "11T10"), order("a2", "12T09", order_id="a", event_type="paid")
    )
    settle(shop)
    assert shop.rows("SELECT order_id, day, events, paid FROM marts.order_states ORDER BY 1") == [
        ("a", date(2026, 3, 10), 2, True),
        ("b", date(2026, 3, 11), 1, False),
    ]
    shop.append("orders", order("b2", "13T09", order_id="b", event_type="paid"))
    shop.publish("orders", "13T09")
    stale = stale_windows(shop.warehouse, shop.catalog)
    assert [w.start for name, w in stale if name == "order_states"] == [instant("11")]
    assert [w.start for name, w in stale if name == "turnover"] == [instant("13"), instant("12")]
    settle(shop)
    assert shop.rows("SELECT events, paid FROM marts.order_states WHERE order_id = 'b'") == [(2, True)]
    shop.append("payments", payment(1, "10T12", "10T12", order_id="b"))
    shop.publish("payments", "10T12")
    assert stale_windows(shop.warehouse, shop.catalog) == [("order_states", TimeWindow.day_of(instant("11")))]


def test_events_beyond_the_reach_are_counted_and_change_nothing(shop: Shop) -> None:
    shop.append("orders", order("a", "5T10"))
    settle(shop)
    shop.append("orders", order("late", "9T00", order_id="a", event_type="paid"))
    settle(shop)
    check = "SELECT passed, unexpected, severity FROM publication.checks WHERE rule = 'events_are_within_reach' AND "
    assert shop.rows(check + "window_start = '2026-03-05 00:00+00'") == [(False, 1, "warn")]
    assert shop.rows("SELECT events, paid FROM marts.order_states") == [(1, False)]
    assert shop.rows("SELECT state FROM publication.windows WHERE dataset = 'order_states'") == [("published",)]


def test_a_mart_is_its_select_over_raw(shop: Shop) -> None:
    for day in range(5, 12):
        for number in range(6):
            shop.append("orders", order(f"{day}-{number}", f"{day}T{number}", amount=number))
            shop.append(
                "orders",
                order(
                    f"p{day}-{number}", f"{day + number % 4}T{number}", order_id=f"{day}-{number}", event_type="paid"
                ),
            )
    settle(shop)
    expected = shop.rows(
        "SELECT order_id, CAST(min(occurred_at) AT TIME ZONE 'UTC' AS date), count(*), bool_or(event_type = 'paid') "
        "FROM raw.orders GROUP BY 1 ORDER BY 1"
    )
    assert shop.rows("SELECT * FROM marts.order_states ORDER BY 1") == expected
    assert len(expected) == 42
    assert shop.publish("order_states", "6").changed_rows == 0
    shop.execute("UPDATE marts.order_states SET paid = false", confirmed="marts.order_states")
    shop.execute("DELETE FROM marts.order_states WHERE order_id = '6-0'")
    assert shop.publish("order_states", "6").changed_rows == 6
    assert shop.publish("turnover", "6").changed_rows == 0


def test_a_mart_row_follows_its_key_to_another_day(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    settle(shop)
    shop.append("orders", order("a-again", "9T10", order_id="a"))
    settle(shop)
    assert shop.rows("SELECT order_id, day FROM marts.order_states") == [("a", date(2026, 3, 9))]
    assert shop.publish("order_states", "10").changed_rows == 0


def test_a_mart_that_puts_one_key_on_two_days_is_refused(shop: Shop) -> None:
    mart = shop.catalog.marts["order_states"]
    sql = "SELECT 'same' AS order_id, CAST(:window_start AS date) AS day, 1 AS events, true AS paid"
    shop.catalog.marts["order_states"] = type(mart)(mart.contract, sql)  # pyright: ignore[reportIndexIssue]
    shop.publish("order_states", "10")
    with pytest.raises(WindowRefused, match="order_id_is_unique"):
        shop.publish("order_states", "11")
    assert shop.rows("SELECT day FROM marts.order_states") == [(date(2026, 3, 10),)]


def test_a_mart_with_rows_of_other_days_is_an_error_of_its_sql(shop: Shop) -> None:
    mart = shop.catalog.marts["order_states"]
    sql = "SELECT 'x' AS order_id, CAST(:window_start AS date) + 1 AS day, 1 AS events, true AS paid"
    shop.catalog.marts["order_states"] = type(mart)(mart.contract, sql)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(InvalidDocument, match=r"order_states\.sql gives rows of other days"):
        shop.publish("order_states", "10")


def test_what_is_no_window_is_no_window(shop: Shop) -> None:
    with pytest.raises(ValueError, match="not one window of orders"):
        publish_window(
            shop.warehouse, shop.catalog, "orders", TimeWindow(instant("10T10:30"), instant("10T11:30")), owner="t"
        )
    with pytest.raises(ValueError, match="no dataset 'nothing'"):
        publish_window(shop.warehouse, shop.catalog, "nothing", TimeWindow.hour_of(instant("10")), owner="t")


def test_a_warehouse_that_is_away_says_nothing_about_the_data(shop: Shop) -> None:
    from incident_pipelines.adapters.databases.postgres import postgres_engine

    away = postgres_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing", "tests")
    with pytest.raises(SourceUnavailable, match="warehouse cannot be reached"):
        publish_window(away, shop.catalog, "orders", TimeWindow.hour_of(instant("10T10")), owner="t")
