"""Two sides that disagree are made to agree again, whichever row is wrong; what cannot be repaired is said."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.incidents.exit_criteria import look_at_exit
from incident_pipelines.stages.recovery import verify as verification
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.differences_shop import (
    CUSTOMERS_ALL,
    WITH_ACCOUNTS,
    WITH_LETTERS,
    Shop,
    open_shop,
)
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RAW = "customers_raw"
FIRST = TimeWindow(START, START + HOUR)
CHANGED = TimeWindow(START + 7 * HOUR, START + 8 * HOUR)
HELD = NOW + timedelta(minutes=30)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng)
    yield opened
    opened.close()


@pytest.fixture
def letters(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng, WITH_LETTERS)
    opened.keep_letters()
    yield opened
    opened.close()


@pytest.fixture
def accounts(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng, WITH_ACCOUNTS)
    opened.keep_accounts()
    yield opened
    opened.close()


def assert_agree(shop: Shop, incident_id: str) -> None:
    """Raw is what the source is, nothing is open, nothing is held, and the timeline is whole."""
    assert shop.customers(in_raw=True) == shop.customers(in_raw=False)
    assert shop.open_differences(RAW) == []
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]
    page = shop.page(incident_id)
    assert page.tampered == ()
    assert [entry.state_to for entry in page.entries if entry.state_to] == [
        "detected",
        "contained",
        "scoped",
        "planned",
        "recovering",
        "verifying",
        "recovered",
    ]


@pytest.mark.parametrize("hour", [FIRST, None])
def test_a_row_that_is_gone_at_its_source_leaves_raw(shop: Shop, hour: TimeWindow | None) -> None:
    shop.app("DELETE FROM customers WHERE customer_id IN (3, 7)")
    shop.extract()
    assert (3, "basic") in shop.customers(in_raw=True), "an extract does not see what is gone"
    incident_id = shop.incident_of(RAW, hour)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert_agree(shop, incident_id)
    told = [entry.text for entry in shop.page(incident_id).entries if entry.kind == "action_done"]
    assert "2 rows of customers removed that shop no longer has" in told


def changed_in_raw(shop: Shop) -> None:
    shop.by_hand("UPDATE raw.customers SET tier = 'gold' WHERE customer_id = 3")


def deleted_in_raw(shop: Shop) -> None:
    shop.by_hand("DELETE FROM raw.customers WHERE customer_id = 3")


def never_landed(shop: Shop) -> None:
    """A transaction that was open for longer than an extract looks back."""
    shop.app("INSERT INTO customers SELECT 500, 'late', created_at, updated_at FROM customers WHERE customer_id = 3")
    shop.extract()


def changed_unseen(shop: Shop) -> None:
    """Somebody changed a row, and not what says when it was changed."""
    shop.app("UPDATE customers SET tier = 'silver' WHERE customer_id = 3")
    shop.extract()


@pytest.mark.parametrize("differ", [changed_in_raw, deleted_in_raw, never_landed, changed_unseen])
def test_a_row_that_raw_has_otherwise_or_lacks_is_put_right(shop: Shop, differ: Callable[[Shop], None]) -> None:
    differ(shop)
    incident_id = shop.incident_of(RAW)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert_agree(shop, incident_id)


def test_sides_that_agree_again_by_themselves_are_compared_and_nothing_is_done(shop: Shop) -> None:
    changed_in_raw(shop)
    incident_id = shop.incident_of(RAW)
    shop.by_hand("UPDATE raw.customers SET tier = 'basic' WHERE customer_id = 3")
    assert shop.reconcile(RAW).resolved == 1
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert [one.state_to for one in shop.page(incident_id).entries if one.state_to] == [
        "detected",
        "contained",
        "scoped",
        "verifying",
        "recovered",
    ]


@pytest.mark.parametrize("differ", ["gone at its source", "otherwise in raw"])
def test_a_row_is_looked_for_in_the_hour_of_its_creation(shop: Shop, differ: str) -> None:
    """What is compared is the hour of its last change: there the difference shows, and raw keeps it elsewhere."""
    shop.app("UPDATE customers SET tier = 'silver', updated_at = %s WHERE customer_id = 3", CHANGED.start)
    shop.extract()
    if differ == "otherwise in raw":
        shop.by_hand("UPDATE raw.customers SET tier = 'gold' WHERE customer_id = 3")
    else:
        shop.app("DELETE FROM customers WHERE customer_id = 3")
    incident_id = shop.incident_of(RAW, CHANGED)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert_agree(shop, incident_id)


def test_a_case_made_of_events_is_looked_for_in_the_hour_of_its_last_change_as_well(accounts: Shop) -> None:
    shop = accounts
    both: dict[str, list[str]] = {}
    for name in sorted(shop.sent, key=lambda name: shop.sent[name]["occurred_at"]):
        both.setdefault(shop.sent[name]["order_id"], []).append(name)
    first, last = next(
        (first, last)
        for first, last in both.values()
        if shop.sent[first]["occurred_at"][:13] != shop.sent[last]["occurred_at"][:13]
    )
    shop.land([name for name in sorted(shop.sent) if name != last])
    shop.publish_all()
    incident_id = shop.incident_of("accounts_sums", TimeWindow.hour_of(shop.sent_at(first)))
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert len(shop.raw()) == len(shop.sent)
    assert shop.open_differences("accounts_sums") == []


def test_what_another_incident_has_yet_to_put_right_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "HOURS_AT_MOST", 0)  # everything is compared, and not the own hours alone
    changed_in_raw(shop)
    first = shop.incident_of(RAW, FIRST)
    shop.by_hand("DELETE FROM raw.customers WHERE customer_id = 45")
    second = shop.signal("window_changed_outside", "customers", TimeWindow.hour_of(START + 2 * HOUR))
    assert first != second
    with pytest.raises(WindowOwned, match=f"1 rows still differ, and {second}, contained, has yet"):
        shop.recover(first)
    assert shop.incident(first).state == "verifying"
    assert shop.recover(second) == "recovered", shop.course(second)
    assert shop.recover(first) == "recovered", shop.course(first)
    assert_agree(shop, first)


@pytest.mark.parametrize("name", ["customers_letters", "addresses_letters"])
def test_a_side_that_nobody_makes_stays_wrong_and_that_is_said(letters: Shop, name: str) -> None:
    shop = letters
    shop.app("UPDATE letters SET tier = 'gold' WHERE customer_id = 3")
    incident_id = shop.incident_of(name, FIRST)
    assert shop.recover(incident_id) == "escalated", shop.course(incident_id)
    assert f"{name}: 1 rows still differ" in shop.course(incident_id).splitlines()[-1]
    assert shop.open_differences(name) == [("mismatched", 3, (None, None))]


def test_sides_that_do_not_say_when_are_compared_whole(
    own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random
) -> None:
    files = {"reconciliations/customers_all.yaml": CUSTOMERS_ALL}
    shop = open_shop(own_databases, tmp_path, new_topic("orders"), rng, files)
    shop.app("DELETE FROM customers WHERE customer_id = 3")
    # Nothing says when its row was changed: the difference is in flight until the grace has passed.
    assert shop.reconcile("customers_all", now=NOW - HOUR).open_in_flight == 1
    incident_id = shop.incident_of(RAW, FIRST)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert shop.open_differences("customers_all") == []
    assert shop.comparisons("customers_all") == ["full", "full"]
    shop.close()


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        (range(3), "3 of 20 rows would go, more than 5%"),
        (range(20), "an empty answer never deletes"),
    ],
)
def test_rows_that_may_not_be_removed_stay_and_a_person_is_told_why(shop: Shop, gone: range, why: str) -> None:
    shop.app("DELETE FROM customers WHERE customer_id = ANY (%s)", list(gone))
    incident_id = shop.incident_of(RAW, FIRST)
    assert shop.recover(incident_id) == "escalated", shop.course(incident_id)
    course = shop.course(incident_id)
    assert why in course
    assert f"{RAW}: {len(gone)} rows still differ" in course.splitlines()[-1]
    assert {row for row, _ in shop.customers(in_raw=True)} == set(range(120))


@pytest.mark.parametrize("hour", [FIRST, None])
def test_what_was_put_right_is_over_once_it_has_held(shop: Shop, hour: TimeWindow | None) -> None:
    shop.by_hand("UPDATE raw.customers SET tier = 'gold' WHERE customer_id = 3")
    incident_id = shop.incident_of(RAW, hour)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)

    def left(now: datetime) -> tuple[str, ...]:
        return look_at_exit(shop.control, shop.warehouse, shop.catalog, incident_id, RUN, now)

    assert left(HELD - timedelta(seconds=1)) == ("it has not held for 30 minutes",)
    shop.by_hand("UPDATE raw.customers SET tier = 'gold' WHERE customer_id = 50")
    shop.reconcile(RAW, now=NOW + timedelta(minutes=5))
    assert left(HELD) == ("1 differences that nothing explains were found since it began",)
    assert shop.incident(incident_id).state == "recovered"
    shop.by_hand("UPDATE raw.customers SET tier = 'basic' WHERE customer_id = 50")
    shop.reconcile(RAW, now=NOW + timedelta(minutes=25))
    assert left(HELD) == ()
    assert shop.incident(incident_id).state == "resolved"
