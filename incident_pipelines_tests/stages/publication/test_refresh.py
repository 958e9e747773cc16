from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, text

from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Failed, Refused, Skipped, refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, hours, instant, open_shop, order, payment

pytestmark = pytest.mark.stack


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    yield shop
    close_shop(shop)


def test_everything_that_landed_is_published_references_first_and_marts_last(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"), order("b", "10T11"))
    shop.append("payments", payment(1, "10T10", "10T10"))
    shop.append("plans", {"plan_id": "basic", "price": 1, "updated_at": "2026-01-01T00:00:00Z"})
    assert len(stale_windows(shop.warehouse, shop.catalog)) == 4
    names = [name for name, _ in stale_windows(shop.warehouse, shop.catalog)]
    assert names.index("plans") < names.index("orders")
    done = list(refresh(shop.warehouse, shop.catalog, owner="refresh 1"))
    assert all(isinstance(window, PublishedWindow) for window in done)
    assert [window.dataset for window in done].index("plans") == 0 or names[0] != "plans"
    assert [(w.dataset, w.window.start) for w in done if w.dataset in shop.catalog.marts] == [
        ("order_states", instant("10")),
        ("turnover", instant("10")),
        ("turnover", instant("9")),
    ]
    assert [w.window for w in done if w.dataset == "orders"] == [*hours("10T11", "10T10")]
    assert len(stale_windows(shop.warehouse, shop.catalog)) == 0
    assert list(refresh(shop.warehouse, shop.catalog, owner="refresh 2")) == []


def test_a_window_that_somebody_owns_is_left_to_them_and_stays_stale(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", order("a", "10T10"), order("b", "10T11"))
    (window,) = hours("10T10")
    with shop.warehouse.connect() as owner, owner.begin():
        owner.execute(text("SELECT set_config('application_name', 'backfill 7', true)"))
        owner.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("orders", window)})
        done = list(refresh(shop.warehouse, shop.catalog, owner="refresh"))
    assert [w for w in done if isinstance(w, Skipped)] == [
        Skipped("orders", window, "orders 2026-03-10T10:00:00+00:00 is being published by backfill 7")
    ]
    assert stale_windows(shop.warehouse, shop.catalog) == [("orders", window)]


def test_a_refused_window_waits_for_new_inputs(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10", plan_id="none"))
    (refused,) = refresh(shop.warehouse, shop.catalog, owner="refresh")
    assert isinstance(refused, Refused)
    assert "plan_id_exists_in_plans" in refused.message
    assert list(refresh(shop.warehouse, shop.catalog, owner="refresh")) == []
    shop.append("orders", order("b", "10T10", plan_id="none"))
    assert len(list(refresh(shop.warehouse, shop.catalog, owner="refresh"))) == 1


def test_one_window_that_cannot_be_built_does_not_keep_the_others(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", order("a", "10T10", pieces=3), order("b", "11T10"))
    shop.execute("ALTER TABLE raw.orders ADD CONSTRAINT few CHECK (pieces < 3)")
    done = [w for w in refresh(shop.warehouse, shop.catalog, owner="refresh") if w.dataset == "orders"]
    assert [type(window) for window in done] == [PublishedWindow, Failed]
    assert isinstance(done[1], Failed)
    assert "few" in done[1].message
    assert "Failing row" not in done[1].message
    assert [name for name, _ in stale_windows(shop.warehouse, shop.catalog)] == ["orders"]


def test_hours_to_come_wait(shop: Shop) -> None:
    shop.plans("basic")
    soon = TimeWindow.hour_of(shop.rows("SELECT now()")[0][0] + timedelta(hours=1)).start
    shop.execute(
        "INSERT INTO landing.hours (contract, hour, origin_id, partition, rows, dead_letters, first_position, "
        "last_position) VALUES ('orders', :hour, 1, 0, 1, 0, 0, 0)",
        hour=soon,
    )
    assert stale_windows(shop.warehouse, shop.catalog) == []
    assert soon > NOW


def test_more_in_the_log_makes_stale_again(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", order("a", "10T10"))
    list(refresh(shop.warehouse, shop.catalog, owner="refresh"))
    shop.append("orders", order("a", "10T10"))
    assert stale_windows(shop.warehouse, shop.catalog) == [("orders", *hours("10T10"))]
    (again,) = refresh(shop.warehouse, shop.catalog, owner="refresh")
    assert isinstance(again, PublishedWindow)
    assert (again.changed_rows, again.duplicates) == (0, 1)
    # Nothing changed in raw, so no mart has to look again.
    assert stale_windows(shop.warehouse, shop.catalog) == []


def test_a_dataset_that_is_held_up_does_not_hold_up_others_and_only_one_of_its_windows_is_begun(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", *(order(f"o{hour}", f"10T{hour}") for hour in range(10, 14)))
    shop.append("payments", *(payment(hour, f"10T{hour}", f"10T{hour}") for hour in range(10, 14)))
    with shop.owner.connect() as holder, holder.begin() as held:
        holder.execute(text("LOCK TABLE raw.orders IN SHARE MODE"))
        done = refresh(shop.warehouse, shop.catalog, owner="refresh", datasets_at_once=3)
        meanwhile = [next(done) for _ in range(4)]
        owned = _windows_owned(holder)
        held.rollback()
    assert [(window.dataset, window.window) for window in meanwhile] == [
        ("payments", window) for window in hours("10T13", "10T12", "10T11", "10T10")
    ]
    assert owned == 1
    assert [window.window for window in done if window.dataset == "orders"] == hours("10T13", "10T12", "10T11", "10T10")


def test_a_dataset_waits_for_those_that_it_refers_to(shop: Shop) -> None:
    shop.append("plans", {"plan_id": "basic", "price": 1, "updated_at": "2026-01-01T00:00:00Z"})
    shop.append("orders", order("a", "10T10"), order("b", "10T11"))
    shop.append("payments", payment(1, "10T10", "10T10"))
    with shop.owner.connect() as holder, holder.begin() as held:
        holder.execute(text("LOCK TABLE raw.plans IN SHARE MODE"))
        outcomes = refresh(shop.warehouse, shop.catalog, owner="refresh", datasets_at_once=3)
        first = next(outcomes)
        held.rollback()
    done = [first, *outcomes]
    assert all(isinstance(window, PublishedWindow) for window in done)
    assert [window.dataset for window in done][:4] == ["payments", "plans", "orders", "orders"]


def test_raw_is_complete_before_the_first_mart_and_does_not_depend_on_how_much_is_done_at_once(
    shop: Shop, rng: Random
) -> None:
    shop.append("plans", {"plan_id": "basic", "price": 1, "updated_at": "2026-01-01T00:00:00Z"})
    names = [f"o{number}" for number in range(20)]
    shop.append(
        "orders",
        *(
            # Equal names at other times and amounts are copies that disagree.
            order(
                rng.choice(names),
                f"{rng.randint(10, 11)}T{rng.randint(10, 13)}",
                amount=rng.choice([-1, 5]),
                plan_id=rng.choice(["basic", "basic", "none"]),
            )
            for _ in range(40)
        ),
    )
    shop.append(
        "payments",
        *(
            payment(number, f"10T{rng.randint(10, 13)}", "10T14", transaction_id=f"t{rng.randint(1, 20)}", amount=1)
            for number in range(20)
        ),
    )
    states: list[list[list[tuple[object, ...]]]] = []
    for at_once in (1, 3):
        outcomes = [
            outcome.dataset
            for outcome in refresh(shop.warehouse, shop.catalog, owner="refresh", datasets_at_once=at_once)
        ]
        is_mart = [dataset in shop.catalog.marts for dataset in outcomes]
        assert is_mart == sorted(is_mart)
        assert is_mart[-1]
        while list(refresh(shop.warehouse, shop.catalog, owner="refresh", datasets_at_once=at_once)):
            pass
        states.append([sorted(shop.rows(f"SELECT * FROM {table}"), key=repr) for table in _CONTENT])
        if at_once == 1:
            for table in ("raw.plans", "raw.orders", "raw.payments", "marts.order_states", "marts.turnover"):
                shop.execute(f"DELETE FROM {table}", confirmed=table)
            shop.execute("TRUNCATE landing.quarantine, publication.windows, publication.checks, publication.inputs")
    assert states[0][0], "the seed gives rows"
    assert states[0] == states[1]


def test_leaving_it_waits_for_what_is_under_way_and_begins_nothing_else(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", *(order(f"o{hour}", f"10T{hour}") for hour in range(10, 18)))
    shop.append("payments", *(payment(hour, f"10T{hour}", f"10T{hour}") for hour in range(10, 18)))
    with closing(refresh(shop.warehouse, shop.catalog, owner="refresh", datasets_at_once=2)) as outcomes:
        next(outcomes)
    with shop.owner.connect() as connection:
        assert _windows_owned(connection) == 0
    # The first, the next of its dataset, and one or two of the other.
    assert 11 <= len(stale_windows(shop.warehouse, shop.catalog)) - _stale_days(shop) <= 14


def test_statistics_are_renewed_before_marts_are_built_from_many_new_rows(shop: Shop) -> None:
    shop.plans("basic")
    shop.append("orders", order("a", "10T10"))
    list(refresh(shop.warehouse, shop.catalog, owner="refresh"))
    analyzed = "SELECT analyze_count FROM pg_stat_user_tables WHERE schemaname = 'raw' AND relname = 'orders'"
    assert shop.rows(analyzed) == [(0,)]
    shop.append("orders", *(order(f"o{number}", "10T11") for number in range(1200)))
    list(refresh(shop.warehouse, shop.catalog, owner="refresh"))
    assert shop.rows(analyzed) == [(1,)]


_CONTENT = (
    "raw.orders",
    "raw.payments",
    "marts.order_states",
    "marts.turnover",
    "(SELECT contract, key, reasons FROM landing.quarantine) q",
)


def _windows_owned(connection: Connection) -> int:
    return connection.execute(
        text(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        )
    ).scalar_one()


def _stale_days(shop: Shop) -> int:
    return sum(1 for dataset, _ in stale_windows(shop.warehouse, shop.catalog) if dataset in shop.catalog.marts)
