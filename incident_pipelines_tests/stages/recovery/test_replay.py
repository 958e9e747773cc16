"""A replay appends each missing event once, however many replay at the same time, and holds few of them in memory."""

import random
import threading
import time
import tracemalloc

import pytest

from incident_pipelines.adapters.recovery_sources import source as reading
from incident_pipelines.core.recovery.guardrails import Guardrails
from incident_pipelines.stages.recovery import replay
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery.test_recover import LOST, lose_some
from incident_pipelines_tests.stages.recovery.test_recover_hostile import planned
from incident_pipelines_tests.stages.recovery_shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

FREE = Guardrails(None, 1_000)


@pytest.fixture
def shop(shop: Shop, topic: str, rng: random.Random) -> Shop:
    assert lose_some(shop, topic, rng) == "INC-1"
    return shop


def assert_each_is_there_once(shop: Shop) -> None:
    assert shop.rows("SELECT count(DISTINCT event_id), count(*) FROM landing.orders") == [(len(shop.sent),) * 2]


def test_what_another_replay_appends_in_the_meantime_is_not_appended_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 10)
    carry_out = planned(shop, "INC-1", FREE)
    others: list[int] = []

    def meanwhile(point: str) -> None:
        if point == "replay.before_append" and not others:
            others.append(0)
            others[0] = carry_out()

    monkeypatch.setattr(replay, "failpoint", meanwhile)
    assert (carry_out(), others) == (0, [LOST])
    assert_each_is_there_once(shop)
    counted = "SELECT replayed FROM incidents.budgets"
    assert query(shop.databases.url("control"), counted) == [(LOST,)]


def test_of_two_replays_that_append_at_once_one_waits_and_looks_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = planned(shop, "INC-1", FREE)
    others: list[int] = []
    other = threading.Thread(target=lambda: others.append(carry_out()))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    def meanwhile(point: str) -> None:
        if point == "replay.before_commit" and other.ident is None:
            other.start()
            until = time.monotonic() + 60
            while query(shop.databases.url("warehouse"), waits) == [(0,)] and other.is_alive():
                assert time.monotonic() < until, "the other replay neither waits nor ends"

    monkeypatch.setattr(replay, "failpoint", meanwhile)
    assert carry_out() == LOST
    other.join(60)
    assert others == [0]
    assert_each_is_there_once(shop)


def test_a_replay_needs_no_more_memory_where_the_log_has_more_events(shop: Shop) -> None:
    carry_out = planned(shop, "INC-1", FREE)
    query(
        shop.databases.url("warehouse"),
        "WITH o AS (INSERT INTO landing.origins (contract, kind) VALUES ('orders', 'history') RETURNING origin_id) "
        "INSERT INTO landing.orders (origin_id, partition, position, landed_at, event_time, event_id, value) "
        "SELECT origin_id, 0, n, now(), l.event_time, gen_random_uuid()::text, '' "
        "FROM o, generate_series(1, 100000) n, (SELECT min(event_time) AS event_time FROM landing.orders) l",
    )
    tracemalloc.start()
    assert carry_out() == LOST
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 3_000_000
