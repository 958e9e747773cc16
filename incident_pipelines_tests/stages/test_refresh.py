from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publish import PublishedWindow
from incident_pipelines.stages.refresh import Failed, Refused, Skipped, refresh, stale_windows
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
