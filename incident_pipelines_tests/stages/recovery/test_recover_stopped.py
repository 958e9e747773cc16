"""The kill switch: a recovery that a person stops does nothing more from its next chunk or window on, until resumed."""

import random
import time
from decimal import Decimal
from typing import Any

import pytest

from incident_pipelines.adapters.recovery_sources import source as reading
from incident_pipelines.core.errors import RecoveryStopped
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.guardrails import Guardrails
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.recovery import replay
from incident_pipelines.stages.recovery.recover import plan_incident, recover_incident, scope_incident
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery.test_recover import LOST, lose_some, loss_of
from incident_pipelines_tests.stages.recovery.test_recover_hostile import planned
from incident_pipelines_tests.stages.recovery_shop import NOW, Shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

ANN = Actor("person", "ann")
CHUNK = 10


@pytest.fixture
def shop(shop: Shop, topic: str, rng: random.Random) -> Shop:
    assert lose_some(shop, topic, rng) == "INC-1"
    return shop


def stop(shop: Shop) -> None:
    by_hand.stop(shop.control, "INC-1", "not now", ANN, NOW)


def appended(shop: Shop) -> int:
    """Number of events that the recovery has appended."""
    brought = "SELECT count(*) FROM landing.orders JOIN landing.origins USING (origin_id) WHERE kind = 'recovery'"
    ((events,),) = shop.rows(brought)
    return events


def recover_until_stopped(shop: Shop, **changes: Any) -> None:
    """Recover; once stopped, and begun again before it is resumed, it does nothing."""
    work = shop.work("INC-1", **changes)
    scope_incident(work)
    plan_incident(work)
    with pytest.raises(RecoveryStopped, match="was stopped by ann: not now"):
        recover_incident(work)
    before = appended(shop), shop.raw()
    assert recover_incident(work) == "recovering"
    assert (appended(shop), shop.raw()) == before


def resume_to_the_end(shop: Shop, **changes: Any) -> None:
    """Resume; all is recovered, and nothing twice."""
    by_hand.resume(shop.control, "INC-1", ANN, NOW)
    assert shop.recover("INC-1", **changes) == "recovered"
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}
    assert shop.rows("SELECT count(DISTINCT event_id), count(*) FROM landing.orders") == [(len(shop.sent),) * 2]
    assert (appended(shop), loss_of(shop, "INC-1").recovered) == (LOST, LOST)
    # A stop costs no budget: what was taken was appended.
    assert query(shop.databases.url("control"), "SELECT taken, replayed FROM incidents.budgets") == [(LOST, LOST)]
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]


def test_stopped_before_its_first_chunk_it_appends_none(shop: Shop) -> None:
    def report(said: str) -> None:
        if "replaying from" in said:
            stop(shop)

    recover_until_stopped(shop, report=report)
    assert appended(shop) == 0
    resume_to_the_end(shop)


def test_stopped_between_chunks_it_appends_no_further_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH", CHUNK)
    chunks: list[int] = []

    def at(point: str) -> None:
        if point == "replay.after_commit":
            chunks.append(appended(shop))
            if len(chunks) == 3:
                stop(shop)

    monkeypatch.setattr(replay, "failpoint", at)
    recover_until_stopped(shop)
    assert len(chunks) == 3
    assert 0 < chunks[-1] == appended(shop) <= 3 * CHUNK
    resume_to_the_end(shop)


def test_stopped_while_it_waits_for_its_turn_it_does_not_wait_any_longer(shop: Shop) -> None:
    waits = "SELECT free_at > clock_timestamp() FROM incidents.pace"

    def check() -> None:
        if query(shop.databases.url("control"), waits) == [(True,)]:
            raise RecoveryStopped("not now")

    began = time.monotonic()
    with pytest.raises(RecoveryStopped):
        planned(shop, "INC-1", Guardrails(LOST / 3600, 1_000), check=check)()
    assert time.monotonic() - began < 120
    assert appended(shop) == 0


def test_stopped_between_windows_it_publishes_no_further_one(shop: Shop) -> None:
    published: list[tuple[str, TimeWindow]] = []

    def stopped_after_two(window: PublishedWindow, progress: str) -> None:
        published.append((window.dataset, window.window))
        if len(published) == 2:
            stop(shop)

    recover_until_stopped(shop, published=stopped_after_two)
    assert len(published) == 2
    assert appended(shop) == LOST
    assert len(shop.raw()) < len(shop.sent)
    resume_to_the_end(shop, published=stopped_after_two)
    # Each once: those that had been published are not published again.
    assert len(published) == len(set(published)) > 2
