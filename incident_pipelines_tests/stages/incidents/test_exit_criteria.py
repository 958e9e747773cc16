"""A recovered incident is resolved by itself once its exit criteria have held, and not before a person has done his."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.core.incidents.course import HELD_FOR
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.incidents.exit_criteria import look_at_exit
from incident_pipelines.stages.landing.state import resume_landing
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery_shop import NOW, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

SENSOR = Actor("sensor", "open_incidents_sensor")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic("orders", partitions=3)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng, events=20)
    opened.land(sorted(opened.sent))
    opened.publish_all()
    yield opened
    opened.close()


def stop(shop: Shop, topic: str, partitions: list[int]) -> None:
    """Leave partitions as a lander leaves those of a topic that was made again."""
    query(
        shop.databases.url("warehouse"),
        "WITH o AS (INSERT INTO landing.origins (contract, kind, topic, topic_id) VALUES ('orders', 'topic', %s, 'x')"
        " RETURNING origin_id) INSERT INTO landing.offsets (topic, partition, contract, origin_id, next, state,"
        " stopped_reason) SELECT %s, p, 'orders', origin_id, 7, 'stopped', 'made again' FROM o, unnest(%s::int[]) p",
        topic,
        topic,
        partitions,
    )


def look(shop: Shop, incident_id: str, after: timedelta) -> tuple[str, ...]:
    return look_at_exit(shop.control, shop.warehouse, shop.catalog, incident_id, SENSOR, NOW + after)


def test_it_is_not_over_while_landing_of_its_topic_waits_for_a_person(shop: Shop, topic: str) -> None:
    stop(shop, topic, [0, 2])
    incident_id = shop.signal("topic_recreated", "orders", None, topic=topic)
    assert shop.recover(incident_id) == "recovered"
    for minutes in (0, 1, 15):
        (reason,) = look(shop, incident_id, HELD_FOR + minutes * MINUTE)
        assert reason.startswith(f"landing of {topic}[0, 2] has stopped until ")
        assert f"`incident-pipelines landing resume {topic} --from start`" in reason
    assert shop.incident(incident_id).state == "recovered"
    # Whoever reads `incident show` is told as well, and once.
    assert [one.text for one in shop.page(incident_id).entries if one.kind == "noted"] == [
        f"not resolved yet: {reason}"
    ]
    owner = {**shop.variables, **shop.databases.environment("owner")}
    assert len(resume_landing(owner, topic, "start")) == 2
    assert look(shop, incident_id, HELD_FOR + 16 * MINUTE) == ()
    assert (shop.incident(incident_id).state, shop.incident(incident_id).resolution) == ("resolved", "proven")


def test_it_is_told_again_when_it_has_recovered_once_more(shop: Shop, topic: str) -> None:
    stop(shop, topic, [1])
    incident_id = shop.signal("topic_recreated", "orders", None, topic=topic)
    for _ in range(2):
        assert shop.recover(incident_id) == "recovered"
        assert look(shop, incident_id, HELD_FOR)
        assert shop.signal("topic_recreated", "orders", None, topic=topic) == incident_id
    assert len([one for one in shop.page(incident_id).entries if one.text.startswith("not resolved yet: ")]) == 2


@pytest.mark.parametrize(("dead", "resolved"), [(0, True), (1, True), (2, False)])
def test_it_is_not_over_while_more_than_one_in_a_thousand_is_a_dead_letter(
    shop: Shop, topic: str, dead: int, resolved: bool
) -> None:
    incident_id = shop.signal("topic_recreated", "orders", None, topic=topic)
    assert shop.recover(incident_id) == "recovered"
    query(
        shop.databases.url("warehouse"),
        "WITH o AS (INSERT INTO landing.origins (contract, kind, topic, topic_id) VALUES ('orders', 'topic', %s, 'l')"
        " RETURNING origin_id) INSERT INTO landing.hours (contract, hour, origin_id, partition, rows, dead_letters,"
        " version, first_position, last_position, changed_at)"
        " SELECT 'orders', date_trunc('hour', %s), origin_id, 0, 1000, %s, 1, 0, 999, %s FROM o",
        topic,
        NOW,
        dead,
        NOW + HELD_FOR,
    )
    left = look(shop, incident_id, HELD_FOR)
    assert left == (() if resolved else ("2 of 1000 events landed in the last 30 minutes are dead letters",))
    assert shop.incident(incident_id).state == ("resolved" if resolved else "recovered")


def test_what_has_stopped_of_a_topic_that_nobody_lands_any_more_keeps_nothing_open(shop: Shop, topic: str) -> None:
    stop(shop, f"{topic}_before", [0])
    incident_id = shop.signal("topic_recreated", "orders", None, topic=topic)
    assert shop.recover(incident_id) == "recovered"
    assert look(shop, incident_id, HELD_FOR - MINUTE) == ("it has not held for 30 minutes",)
    assert look(shop, incident_id, HELD_FOR) == ()
    assert shop.incident(incident_id).state == "resolved"
