"""While an incident holds windows nobody else publishes them, whatever was under way when it came."""

import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.stores.holds import (
    MAX_WINDOWS,
    check_holds,
    hold_windows,
    read_holds,
    release_holds,
)
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.holds import Hold, HoldKind, Place
from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.backfill import publish_range
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Skipped, refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import wait_for
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, hours, instant, open_shop, order

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

(TEN,) = hours("10T10")
(ELEVEN,) = hours("10T11")
DAY = TimeWindow.day_of(TEN.start)


@pytest.fixture(scope="module")
def opened(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(databases, Path(tmp_path_factory.mktemp("shop")))
    shop.plans("basic")
    shop.append("orders", order("a", "10T10"), order("b", "10T11"))
    yield shop
    close_shop(shop)


@pytest.fixture
def shop(opened: Shop) -> Shop:
    opened.execute("DELETE FROM publication.holds")
    return opened


def hold(shop: Shop, incident_id: str, kind: HoldKind, *places: Place) -> list[Hold]:
    with shop.warehouse.begin() as connection:
        return hold_windows(connection, incident_id, kind, places, "prices are odd", NOW, wait_seconds=5)


def may_publish(shop: Shop, incident_id: str | None, dataset: str = "orders", window: TimeWindow = TEN) -> bool:
    with shop.warehouse.connect() as connection:
        try:
            check_holds(connection, dataset, window, incident_id)
        except WindowOwned:
            return False
        return True


def test_only_the_incident_publishes_what_it_holds(shop: Shop) -> None:
    (held,) = hold(shop, "INC-7", "quarantine", ("orders", TEN))
    assert (held.number, held.kind, held.window, held.reason, held.held_at) == (
        7,
        "quarantine",
        TEN,
        "prices are odd",
        NOW,
    )
    with pytest.raises(WindowOwned) as owned:
        shop.publish("orders", "10T10")
    assert str(owned.value) == (
        "orders 2026-03-10T10:00:00+00:00 is quarantined by INC-7 (prices are odd); only that incident publishes it "
        "until it is over: `incident-pipelines incident show INC-7`"
    )
    with pytest.raises(WindowOwned):
        shop.publish("orders", "10T10", incident_id="INC-8")
    assert shop.publish("orders", "10T11").rows == 1
    assert shop.publish("orders", "10T10", incident_id="INC-7").rows == 1
    with shop.warehouse.begin() as connection:
        assert release_holds(connection, "INC-7", ["pause"]) == 0
        assert release_holds(connection, "INC-7") == 1
    assert shop.publish("orders", "10T10").changed_rows == 0


def test_a_span_holds_every_window_that_overlaps_it(shop: Shop) -> None:
    half = TimeWindow(instant("10T10:30"), instant("10T11:30"))
    hold(shop, "INC-1", "pause", ("orders", half), ("turnover", half), ("plans", shop.catalog.whole))
    assert not may_publish(shop, None, "orders", TEN)
    assert not may_publish(shop, None, "orders", ELEVEN)
    assert may_publish(shop, None, "orders", hours("10T12")[0])
    assert not may_publish(shop, None, "turnover", DAY)
    assert may_publish(shop, None, "order_states", DAY)
    assert not may_publish(shop, None, "plans", shop.catalog.whole)


def test_refresh_leaves_held_windows_stale_and_a_backfill_says_who_holds_them(shop: Shop) -> None:
    shop.append("orders", order("c", "12T10"), order("d", "12T11"))
    ten, eleven = hours("12T10", "12T11")
    hold(shop, "INC-3", "pause", ("orders", ten))
    outcomes = [one for one in refresh(shop.warehouse, shop.catalog, owner="refresh") if one.dataset == "orders"]
    assert {one.window: type(one) for one in outcomes if one.window in (ten, eleven)} == {
        ten: Skipped,
        eleven: PublishedWindow,
    }
    assert ("orders", ten) in stale_windows(shop.warehouse, shop.catalog)
    (skipped,) = publish_range(shop.warehouse, shop.catalog, "orders", [ten], root_run_id="r", owner="run r")
    assert isinstance(skipped, Skipped)
    assert "is paused by INC-3" in skipped.message
    (done,) = publish_range(
        shop.warehouse, shop.catalog, "orders", [ten], root_run_id="r", owner="run r", incident_id="INC-3"
    )
    assert isinstance(done, PublishedWindow)


def test_holding_again_changes_nothing(shop: Shop) -> None:
    first = hold(shop, "INC-1", "pause", ("orders", TEN), ("orders", ELEVEN))
    assert hold(shop, "INC-1", "pause", ("orders", ELEVEN), ("orders", TEN), ("orders", TEN)) == first
    with shop.warehouse.connect() as connection:
        assert read_holds(connection) == read_holds(connection, "INC-1") == first
        assert read_holds(connection, "INC-2") == []


def test_nothing_is_held_where_a_recovery_has_to_wait(shop: Shop) -> None:
    hold(shop, "INC-2", "recovery", ("orders", ELEVEN))
    with pytest.raises(WindowOwned, match="being recovered by INC-2"):
        hold(shop, "INC-1", "recovery", ("orders", TEN), ("orders", ELEVEN))
    assert may_publish(shop, None, "orders", TEN)
    with pytest.raises(ValueError, match=f"at most {MAX_WINDOWS}"):
        hold(shop, "INC-9", "pause", ("orders", TimeWindow(instant("1"), instant("1").replace(year=2027))))
    assert may_publish(shop, None, "orders", TEN)


SPANS = [TimeWindow(TEN.start.replace(hour=a), TEN.start.replace(hour=b)) for a, b in combinations(range(8, 14), 2)]
PLACES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from(["pause", "quarantine", "recovery"]), st.sampled_from(SPANS)),
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLACES)
def test_exactly_one_incident_may_publish_a_held_window_whatever_they_hold(
    shop: Shop, places: list[tuple[int, HoldKind, TimeWindow]]
) -> None:
    shop.execute("DELETE FROM publication.holds")
    held: list[tuple[int, HoldKind, TimeWindow]] = []
    for number, kind, span in places:
        try:
            hold(shop, f"INC-{number}", kind, ("orders", span))
        except WindowOwned:
            assert kind == "recovery"
        else:
            held.append((number, kind, span))
    for window in hours(*(f"10T{hour}" for hour in range(8, 14))):
        holders = {number for number, _, span in held if span.start < window.end and window.start < span.end}
        allowed = {number for number in (1, 2, 3) if may_publish(shop, f"INC-{number}", "orders", window)}
        assert len(allowed) == (1 if holders else 3)
        assert allowed <= holders or not holders
        assert may_publish(shop, None, "orders", window) == (not holders)
    # No deadlock: the one opened first recovers its windows, unless another is at it, which then may publish them.
    for number, _, span in held:
        if number == min(one[0] for one in held):
            recovering = {one[0] for one in held if one[1] == "recovery" and one[2].start < span.end > one[2].start}
            if recovering <= {number}:
                hold(shop, f"INC-{number}", "recovery", ("orders", span))
            break


def test_a_hold_waits_for_publishes_under_way_and_keeps_the_next_from_beginning(shop: Shop) -> None:
    placed, release = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def place() -> None:
        try:
            with shop.warehouse.begin() as connection:
                hold_windows(connection, "INC-5", "quarantine", [("orders", TEN)], "odd", NOW)
                placed.set()
                assert release.wait(20)
        except BaseException as error:
            failed.append(error)
            placed.set()

    with shop.warehouse.connect() as publisher, publisher.begin() as publishing:
        publisher.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("orders", TEN)})
        check_holds(publisher, "orders", TEN, None)
        thread = threading.Thread(target=place)
        thread.start()
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: bool(shop.rows(waiting)), "the hold to wait for the publish")
        assert not placed.is_set()
        publishing.commit()
    assert placed.wait(20)
    # Not committed yet: whoever wants to publish finds the window taken, not free.
    with pytest.raises(WindowOwned, match="is being published by tests"):
        shop.publish("orders", "10T10", wait_seconds=0)
    results: list[str] = []

    def publish() -> None:
        try:
            shop.publish("orders", "10T10", wait_seconds=20)
        except WindowOwned as error:
            results.append(str(error))

    late = threading.Thread(target=publish)
    late.start()
    wait_for(lambda: bool(shop.rows(waiting)), "the publish to wait for the hold")
    release.set()
    thread.join(20)
    late.join(20)
    assert failed == []
    assert len(results) == 1
    assert "is quarantined by INC-5" in results[0]


def test_a_publish_that_does_not_end_keeps_the_hold_away_and_is_named(shop: Shop) -> None:
    with shop.warehouse.connect() as publisher, publisher.begin():
        publisher.execute(text("SELECT set_config('application_name', 'backfill 9', true)"))
        publisher.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key("turnover", DAY)})
        with (
            pytest.raises(WindowOwned, match=r"turnover 2026-03-10T00:00:00\+00:00 is being published by backfill 9"),
            shop.warehouse.begin() as connection,
        ):
            hold_windows(connection, "INC-5", "pause", [("turnover", TEN)], "odd", NOW, wait_seconds=0.1)
    assert may_publish(shop, None, "turnover", DAY)


def test_the_publishers_role_places_and_releases_and_others_only_look(shop: Shop, databases: Databases) -> None:
    hold(shop, "INC-1", "pause", ("orders", TEN))
    with shop.warehouse.connect() as connection, pytest.raises(Exception, match="permission denied"):
        connection.execute(text("UPDATE publication.holds SET reason = reason"))
    monitor = postgres_engine(databases.url("warehouse", "monitor"), "test")
    with monitor.connect() as connection:
        assert len(read_holds(connection)) == 1
        with pytest.raises(Exception, match="permission denied"):
            release_holds(connection, "INC-1")
    monitor.dispose()
