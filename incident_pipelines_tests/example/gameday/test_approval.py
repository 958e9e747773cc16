"""In the first days of a month a game day touches a month that is closed: its plan waits for a person, who agrees."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.stores.incidents_work import StoredPlan
from incident_pipelines.core.incidents.incident import STATES, State
from incident_pipelines.core.incidents.scope import downstream_of
from incident_pipelines.core.recovery.plan import closed_periods
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow
from incident_pipelines.example.gameday.accidental_delete import MAX_HOURS_AGO, MIN_HOURS_AGO, hour_of_victims
from incident_pipelines.example.gameday.approval import approve_waiting_plans, waits_for_game_day
from incident_pipelines.example.gameday.measure import Course, course_of
from incident_pipelines.example.gameday.retention import DAYS
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery_shop import NOW, START, Shop, open_shop

NEXT_MONTH = datetime(2026, 4, 2, 9, tzinfo=UTC)
FAULT_AT = NOW
PLAN = StoredPlan(1, "INC-1", "d" * 64, 1, {}, FAULT_AT + HOUR, "run r", None, None)


Closed = Callable[[list[str], TimeWindow, datetime], tuple[str, ...]]


@pytest.fixture(scope="module")
def closed() -> Closed:
    """Which closed numbers of the example move when a window of some datasets is published again."""
    catalog = load_catalog({"INCIDENT_PIPELINES_START": "2026-10-01T00:00:00Z"})
    return lambda datasets, window, now: closed_periods(
        catalog, downstream_of(catalog, [(name, window) for name in datasets], now), now
    )


@pytest.mark.parametrize(("day", "waits"), [(1, True), (2, True), (3, True), (4, False), (27, False)])
def test_three_days_reach_into_a_closed_month_in_the_first_days_of_the_next(
    closed: Closed, day: int, waits: bool
) -> None:
    now = datetime(2026, 12, day, 0, 30, tzinfo=UTC)
    lost = TimeWindow(TimeWindow.day_of(now).start - DAYS * DAY, now)
    assert bool(closed(["payments", "registrations", "page_views"], lost, now)) == waits


@pytest.mark.parametrize("now", [datetime(2026, 12, day, hour, 59, tzinfo=UTC) for day in (1, 2) for hour in (3, 12)])
def test_rows_are_deleted_in_a_month_that_is_open_as_soon_as_it_has_an_hour(closed: Closed, now: datetime) -> None:
    for hours_ago in range(MIN_HOURS_AGO, MAX_HOURS_AGO + 1):
        hour = hour_of_victims(now, hours_ago)
        assert closed(["payments", "registrations"], hour, now) == ()
        assert now - (MAX_HOURS_AGO + 1) * HOUR < hour.start <= now - MIN_HOURS_AGO * HOUR


def test_the_first_hours_of_a_month_leave_only_hours_of_the_closed_one() -> None:
    now = datetime(2026, 12, 1, 2, 30, tzinfo=UTC)
    assert hour_of_victims(now, 30) == TimeWindow.hour_of(datetime(2026, 11, 30, 23, tzinfo=UTC))
    assert hour_of_victims(now + 20 * DAY, 30) == TimeWindow.hour_of(now + 20 * DAY - 30 * HOUR)


@pytest.mark.parametrize("state", STATES)
def test_only_what_waits_for_approval_is_approved_and_does_not_end_a_game_day(state: State) -> None:
    assert waits_for_game_day(state, PLAN, FAULT_AT) == (state == "awaiting_approval")
    ends = ("recovered", "resolved", "reviewed", "escalated")
    assert Course("INC-1", state).has_ended == (state in ends)


def test_a_plan_is_approved_once_and_none_that_was_there_before_the_fault() -> None:
    assert not waits_for_game_day("awaiting_approval", replace(PLAN, approved_at=FAULT_AT + HOUR), FAULT_AT)
    assert not waits_for_game_day("awaiting_approval", PLAN, FAULT_AT + 2 * HOUR)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, new_topic("orders"), rng)
    yield opened
    opened.close()


@pytest.fixture
def people(shop: Shop) -> Iterator[Engine]:
    engine = postgres_engine(shop.databases.url("control"), "game day")
    yield engine
    engine.dispose()


@pytest.mark.stack
def test_the_plan_of_a_closed_month_is_approved_by_the_game_day_and_carried_out(shop: Shop, people: Engine) -> None:
    shop.land(sorted(shop.sent))
    shop.publish_all()
    first = "SELECT event_id FROM raw.orders ORDER BY occurred_at LIMIT 5"
    deleted = query(
        shop.databases.url("warehouse"), f"DELETE FROM raw.orders WHERE event_id IN ({first}) RETURNING event_id::text"
    )
    incident_id = shop.signal("window_changed_outside", "orders", TimeWindow.hour_of(START))
    assert shop.recover(incident_id, clock=lambda: NEXT_MONTH) == "awaiting_approval"
    course = course_of(people, frozenset({"changed_outside"}), FAULT_AT)
    assert course.incidents == (incident_id,)

    assert approve_waiting_plans(people, course, NEXT_MONTH + HOUR, NEXT_MONTH) == []
    (told,) = approve_waiting_plans(people, course, FAULT_AT, NEXT_MONTH)
    assert told.endswith("approved as `game day`: 1 days of turnover lie in 2026-03, which is closed and published")
    assert approve_waiting_plans(people, course, FAULT_AT, NEXT_MONTH) == []

    page = shop.page(incident_id)
    assert (page.incident.state, page.plan.approved_by) == ("planned", "game day")
    approvals = [entry.actor for entry in page.entries if entry.kind == "plan_approved"]
    assert approvals == ["game day"]
    assert shop.recover(incident_id, clock=lambda: NEXT_MONTH) == "recovered"
    assert {name for (name,) in deleted} <= shop.raw().keys()
