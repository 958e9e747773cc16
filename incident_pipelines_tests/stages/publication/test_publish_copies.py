"""A producer that sends again what it has sent is told of; who loads history or lands a topic again is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.core.signals import grade
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import Shop, close_shop, open_shop, order

pytestmark = pytest.mark.stack


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    shop.plans("basic")
    yield shop
    close_shop(shop)


def send(shop: Shop, first: int, count: int) -> None:
    shop.append("orders", *(order(f"o{number}", "10T10") for number in range(first, first + count)))


def came_from_topic(shop: Shop) -> None:
    shop.execute(
        "UPDATE landing.origins SET kind = 'topic', topic = 'orders', topic_id = 'topic ' || origin_id "
        "WHERE contract = 'orders' AND kind = 'history'"
    )


def told(shop: Shop) -> list[tuple[int, int]]:
    """(copies, events) of each fact, and what each is graded as."""
    rows = shop.rows("SELECT detail FROM landing.facts WHERE kind = 'duplicate_events' ORDER BY fact_id")
    assert all(grade("duplicate_events", detail).severity == "critical" for (detail,) in rows)
    return [(detail["copies"], detail["events"]) for (detail,) in rows]


def test_copies_of_one_topic_are_told_once_and_again_when_they_have_doubled(shop: Shop) -> None:
    send(shop, 0, 30)
    send(shop, 0, 4)
    came_from_topic(shop)
    assert shop.publish("orders", "10T10").duplicates == 4
    assert told(shop) == []  # a retry explains so few
    # What is appended from here on is in an origin of its own, as after a topic was made again.
    send(shop, 0, 1)
    send(shop, 40, 6)
    send(shop, 40, 6)
    came_from_topic(shop)
    assert shop.publish("orders", "10T10").duplicates == 11
    assert told(shop) == [(10, 47)]
    assert shop.publish("orders", "10T10").changed_rows == 0
    send(shop, 50, 5)
    send(shop, 50, 5)
    came_from_topic(shop)
    shop.publish("orders", "10T10")
    assert told(shop) == [(10, 47)]
    send(shop, 60, 5)
    send(shop, 60, 5)
    came_from_topic(shop)
    assert shop.publish("orders", "10T10").duplicates == 21
    assert told(shop) == [(10, 47), (20, 67)]
    # What was landed again after a topic was resumed, or loaded twice, is no copy of the producer's.
    for kind in ("topic", "history"):
        shop.append("orders", *(order(f"again{number}", "10T12") for number in range(10)))
        if kind == "topic":
            came_from_topic(shop)
    send_again = [order(f"again{number}", "10T12") for number in range(10)]
    shop.append("orders", *send_again)
    assert shop.publish("orders", "10T12").duplicates == 20
    assert told(shop) == [(10, 47), (20, 67)]
