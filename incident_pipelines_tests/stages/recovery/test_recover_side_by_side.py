"""Of two incidents one can be proved only when the other has brought back what differs: both come to their end."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.recovery.windows_held import goes_first
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START, WITH_SENT_AND_TOLD, Shop, open_shop
from incident_pipelines_tests.stepped_lander import Died, dies_at

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

FIRST = TimeWindow(START, START + HOUR)
LOST = 3


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    """What was sent is compared with what has become of it, and some events of the first hour never came."""
    opened = open_shop(own_databases, tmp_path, topic, rng, more=WITH_SENT_AND_TOLD)
    lost = sorted(name for name, event in opened.sent.items() if event["occurred_at"] < FIRST.end.isoformat())[:LOST]
    opened.land([name for name in sorted(opened.sent) if name not in lost])
    opened.publish_all()
    yield opened
    opened.close()


@pytest.fixture
def first(shop: Shop) -> str:
    """An incident that can publish its window again, and not bring back what is missing there."""
    shop.alter(FIRST)
    return shop.signal("window_changed_outside", "orders", FIRST)


def assert_both_are_over(shop: Shop, first: str, second: str) -> None:
    assert shop.recover(second) == "recovered", shop.page(second).entries
    assert shop.rows("SELECT DISTINCT incident_id FROM publication.holds WHERE kind = 'quarantine'") == [(first,)]
    assert shop.recover(first) == "recovered", shop.page(first).entries
    assert len(shop.raw()) == len(shop.sent)
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]
    assert not any(shop.page(one).tampered for one in (first, second))


def test_what_was_proved_before_the_other_was_known_is_proved_again(shop: Shop, topic: str, first: str) -> None:
    assert shop.recover(first) == "escalated"
    second = shop.lose(topic, LOST)
    assert_both_are_over(shop, first, second)


def test_what_waits_for_rows_keeps_nobody_from_bringing_them_back(shop: Shop, topic: str, first: str) -> None:
    second = shop.lose(topic, LOST)
    with pytest.raises(WindowOwned, match=f"{LOST} rows still differ, and {second}, contained, has yet to put"):
        shop.recover(first)
    assert shop.incident(first).state == "verifying"
    assert_both_are_over(shop, first, second)


@pytest.mark.parametrize("escalated", [True, False])
@pytest.mark.parametrize("point", ["recover.replayed", "recover.verified"])
def test_what_is_proved_while_the_other_publishes_waits(
    shop: Shop, topic: str, first: str, point: str, escalated: bool
) -> None:
    if escalated:
        assert shop.recover(first) == "escalated"
    second = shop.lose(topic, LOST)
    if not escalated:
        with pytest.raises(WindowOwned):
            shop.recover(first)
    with dies_at(point), pytest.raises(Died):
        shop.recover(second)
    if escalated:
        assert shop.recover(first) == "escalated"
    else:
        with pytest.raises(WindowOwned, match=f"orders .* being recovered by {second} "):
            shop.recover(first)
        assert shop.incident(first).state == "verifying"
    assert_both_are_over(shop, first, second)


def test_the_wait_is_told_once(shop: Shop, topic: str, first: str) -> None:
    shop.lose(topic, LOST)
    for _ in range(3):
        with pytest.raises(WindowOwned):
            shop.recover(first)
    told = [entry.text for entry in shop.page(first).entries if "has yet to put" in entry.text]
    assert len(told) == 1


def test_what_was_escalated_for_something_else_stays_with_its_person(shop: Shop, topic: str, first: str) -> None:
    second = shop.lose(topic, LOST)
    with pytest.raises(WindowOwned):
        shop.recover(first)
    by_hand.escalate(shop.control, first, "verifying", "3 runs failed", RUN, NOW)
    with pytest.raises(WindowOwned, match=f"orders .* by {first} "):
        shop.recover(second)
    assert shop.recover(first) == "escalated"


def test_what_differs_still_is_left_to_a_person_and_not_proved_for_ever(shop: Shop, topic: str, first: str) -> None:
    second = shop.lose(topic, LOST)
    with pytest.raises(WindowOwned):
        shop.recover(first)
    by_hand.resolve(shop.control, second, "nobody needs them", Actor("person", "ann"), NOW)
    assert [shop.recover(one) for one in (second, first, second, first)][1::2] == ["escalated", "escalated"]


def test_what_a_person_has_stopped_gives_way_to_nobody(shop: Shop, topic: str, first: str) -> None:
    assert shop.recover(first) == "escalated"
    by_hand.stop(shop.control, first, "I am looking at it", Actor("person", "ann"), NOW)
    second = shop.lose(topic, LOST)
    with pytest.raises(WindowOwned, match=f"orders .* quarantined by {first} "):
        shop.recover(second)
    told = goes_first(shop.control, shop.warehouse, shop.incident(second))
    assert told is not None
    assert f"quarantined by {first} " in told
