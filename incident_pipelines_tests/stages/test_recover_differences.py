"""Two sides that disagree are made to agree again, whichever row is wrong; what cannot be repaired is said."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.differences_shop import WITH_ACCOUNTS, Shop, open_shop
from incident_pipelines_tests.stages.recovery_shop import NOW, START

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RAW = "customers_raw"
FIRST = TimeWindow(START, START + HOUR)
CHANGED = TimeWindow(START + 7 * HOUR, START + 8 * HOUR)
HELD = NOW + timedelta(minutes=30)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, new_topic("orders"), rng)
    yield opened
    opened.close()


@pytest.fixture
def accounts(
    own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random
) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, new_topic("orders"), rng, WITH_ACCOUNTS)
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
