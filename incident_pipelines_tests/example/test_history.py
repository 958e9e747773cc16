"""The generator: what it draws, and that it draws the same however it is asked."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident_pipelines.example.events import PAGE_VIEWS, Event
from incident_pipelines.example.history import History, Totals, no_totals
from incident_pipelines.example.progress import minute_of
from incident_pipelines.example.seasons import REGIONS, app_versions, weight
from incident_pipelines.example.visits import (
    LATE_REACH_MINUTES,
    MINUTE_US,
    REACH_MINUTES,
    SignUp,
    Visit,
    World,
    draw_visits,
)

START = minute_of(datetime(2026, 11, 2, 22, 0, tzinfo=UTC))
MINUTES = 180
WORLD = World(seed=11, rate=0.2)


def _events(world: World, cuts: list[int], since: int) -> list[Event]:
    history = History(world, cuts[0], since)
    return [event for end in cuts[1:] for event in history.advance(end).events]


def _totals(world: World, start: int, end: int, since: int) -> Totals:
    totals = no_totals()
    for by_topic in History(world, start, since).advance(end).totals().values():
        totals = {topic: totals[topic] + by_topic[topic] for topic in totals}
    return totals


@pytest.fixture(scope="module")
def whole() -> list[Event]:
    return _events(WORLD, [START, START + MINUTES], START)


@settings(deadline=None, max_examples=6)
@given(st.lists(st.integers(1, MINUTES - 1), max_size=6, unique=True))
def test_events_do_not_depend_on_how_a_range_is_cut(inner: list[int]) -> None:
    cuts = [START, *sorted(START + minute for minute in inner), START + MINUTES]
    assert _events(WORLD, cuts, START) == _events(WORLD, [START, START + MINUTES], START)


@settings(deadline=None, max_examples=5)
@given(st.integers(1, MINUTES - 1))
def test_adjacent_ranges_lose_and_double_nothing(middle: int) -> None:
    first = _totals(WORLD, START, START + middle, START)
    second = _totals(WORLD, START + middle, START + MINUTES, START)
    assert {topic: first[topic] + second[topic] for topic in first} == _totals(WORLD, START, START + MINUTES, START)


def test_digest_tells_seed_and_rate_apart() -> None:
    digests = {
        str(_totals(world, START, START + 30, START)) for world in (WORLD, World(12, 0.2), World(11, 0.3), WORLD)
    }
    assert len(digests) == 3


def test_event_ids_are_unique_and_events_lie_in_the_range(whole: list[Event]) -> None:
    assert len({event.event_id for event in whole}) == len(whole)
    assert all(START * MINUTE_US <= event.time_us < (START + MINUTES) * MINUTE_US for event in whole)
    assert whole == sorted(whole, key=lambda event: event.time_us)


def test_time_grows_strictly_within_a_registration(whole: list[Event]) -> None:
    times: dict[str, list[int]] = defaultdict(list)
    for event in whole:
        if event.topic != PAGE_VIEWS:
            times[event.key].append(event.time_us)
    assert all(earlier < later for group in times.values() for earlier, later in pairwise(group))


def test_at_least_two_fifths_are_transactional(whole: list[Event]) -> None:
    share = sum(event.topic != PAGE_VIEWS for event in whole) / len(whole)
    assert 0.42 < share < 0.48


@pytest.fixture(scope="module")
def sign_ups() -> list[SignUp]:
    return [up for up in (visit.sign_up for visit in _visits(World(3, 2.0), START, START + 4320)) if up is not None]


def _visits(world: World, start: int, end: int, *, step: int = 4) -> list[Visit]:
    return [
        visit for minute in range(start, end, step) for late in (False, True)
        for visit in draw_visits(world, minute, late=late)
    ]  # fmt: skip


def test_declined_cards_are_told_apart_from_failures(sign_ups: list[SignUp]) -> None:
    reasons = Counter(sign_up.failure_reason for sign_up in sign_ups)
    declined = reasons.pop("card_declined") / len(sign_ups)
    activated = reasons.pop(None) / len(sign_ups)
    assert len(sign_ups) > 25_000
    assert 0.025 < declined < 0.035
    assert activated > 0.96
    assert 0 < sum(reasons.values()) / len(sign_ups) <= 0.002
    assert set(reasons) == {"internal_error", "processor_error", "billing_unavailable"}


def test_captures_are_activated_within_five_minutes_but_for_a_few(sign_ups: list[SignUp]) -> None:
    seconds = sorted((up.activated_us - up.captured_us) / 1e6 for up in sign_ups if up.activated_us and up.captured_us)
    assert sum(delay <= 300 for delay in seconds) / len(seconds) >= 0.998
    assert seconds[-1] > 3600
    assert seconds[len(seconds) // 2] < 5


def test_some_sign_ups_cross_midnight(sign_ups: list[SignUp]) -> None:
    day_us = 86_400_000_000
    assert any(up.last_us // day_us > up.created_us // day_us and up.last_us - up.created_us > 3.6e9 for up in sign_ups)


def test_no_visit_reaches_further_than_is_looked_back() -> None:
    for minute in range(START, START + 600, 30):
        for late, reach in ((False, REACH_MINUTES), (True, LATE_REACH_MINUTES)):
            for visit in draw_visits(World(5, 20.0), minute, late=late):
                last_us = max(visit.pages[-1][0], visit.sign_up.last_us if visit.sign_up else 0)
                assert last_us < (minute + reach) * MINUTE_US


def test_submission_and_creation_share_a_minute(sign_ups: list[SignUp]) -> None:
    assert all(up.submitted_us // MINUTE_US == up.created_us // MINUTE_US for up in sign_ups)
    assert all(up.submitted_us < up.created_us for up in sign_ups)


def test_weights_mean_one_over_a_week() -> None:
    for region in REGIONS:
        hours = [weight(region, START + 60 * hour) for hour in range(168)]
        assert sum(hours) / 168 == pytest.approx(1)
        assert max(hours) > 5 * min(hours)


def test_evenings_and_saturdays_are_busier() -> None:
    def at(day: int, hour: int) -> float:
        return weight("eu", minute_of(datetime(2026, 11, day, hour, tzinfo=ZoneInfo("Etc/GMT-1"))))

    assert at(3, 20) > 3 * at(3, 3)
    assert at(7, 20) > 1.1 * at(3, 20)


def test_attempts_follow_the_rate_over_a_week() -> None:
    visits = _visits(World(9, 0.3), START, START + 7 * 1440, step=10)
    attempts = sum(visit.sign_up is not None for visit in visits)
    assert attempts == pytest.approx(0.3 * 60 * 1008, rel=0.04)


def test_a_release_reaches_all_clients_in_the_end() -> None:
    release = minute_of(datetime(2026, 11, 9, tzinfo=UTC))
    shares = [app_versions("android", release + 1440 * day)[2] for day in range(4, 18)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] == 1.0
    assert len({app_versions("ios", release + 1440 * day)[0] for day in range(60)}) >= 4
