"""What a run of looks shows: stuck, falling behind, and the floor under a topic's retention."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.landing_watch import (
    LAG_NEAR_RETENTION,
    LAG_RISING,
    LANDING,
    LANDING_STALLED,
    RETENTION_BELOW_FLOOR,
    History,
    Position,
    condition,
    judge_landing,
    judge_retention,
    lag_rises,
    remembered,
    stuck_since,
)
from incident_pipelines.core.retention import (
    Floor,
    TopicSettings,
    below_floor,
    duration_text,
    floor_of,
    put_back,
    shorter,
)

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY_MS = 86_400_000
STEP = timedelta(seconds=5)


def settings(days: float = 14, policy: str = "delete") -> TopicSettings:
    return TopicSettings("orders", int(days * DAY_MS) if days >= 0 else -1, -1, True, policy)


def looks(
    following: Sequence[tuple[int, int]],
    step: timedelta = STEP,
    age: timedelta | None = None,
    reader: str = LANDING,
    stopped: bool = False,
) -> History:
    """The history of looks at (next, log end), the last one at `NOW`; `age`: of the next unread record at each."""
    history: History = {}
    for number, (following_offset, end) in enumerate(following):
        at = NOW - (len(following) - 1 - number) * step
        unread = None if age is None else at - age
        history = remembered(history, [Position(reader, "orders", 0, at, following_offset, end, unread, stopped)])
    return history


def one(history: History) -> Sequence[Position]:
    (seen,) = history.values()
    return seen


def stuck(looked: int, before: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    return [*before, *((7, 9 + n) for n in range(looked))]


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        ([(5, 5)] * 20, "idle"),
        (stuck(1), "unknown"),
        (stuck(6), "unknown"),  # 25 s
        (stuck(7), "stalled"),  # 30 s
        (stuck(6, [(6, 9)]), "moving"),
        (stuck(7, [(6, 9)]), "stalled"),
        ([(7, 7)] * 20 + stuck(2), "moving"),  # the lag is new
        ([(7, 7)] * 20 + stuck(7), "stalled"),
        ([(7, 9)] * 20 + [(7, 7)] + [(7, 9)] * 3, "moving"),  # what was to read was no record
        ([(n, n + 50) for n in range(20)], "moving"),
    ],
)
def test_standing_still_with_something_to_read_is_an_error_after_half_a_minute(
    following: list[tuple[int, int]], expected: str
) -> None:
    assert condition(one(looks(following))) == expected


def test_a_stall_began_when_there_was_something_to_read_and_nothing_was_read() -> None:
    assert stuck_since(one(looks([(7, 7)] * 3 + stuck(8)))) == NOW - 7 * STEP


def test_a_stopped_partition_has_its_own_signal() -> None:
    assert condition(one(looks(stuck(20), stopped=True))) == "idle"
    assert not judge_landing("orders", settings(), looks(stuck(20), stopped=True, age=timedelta(days=13))).wrong


def test_what_was_not_seen_proves_nothing() -> None:
    history = looks(stuck(20))
    (last,) = history.values()
    later = Position(LANDING, "orders", 0, NOW + timedelta(seconds=40), last[-1].next, 99)
    after = remembered(history, [later])
    assert condition(one(after)) == "unknown"
    assert not judge_landing("orders", settings(), after).right & {(LANDING_STALLED, "orders")}
    assert remembered(history, []) == {}


def test_an_offset_that_goes_back_begins_anew() -> None:
    assert condition(one(looks([(7, 9)] * 20 + [(3, 9)]))) == "unknown"


def test_a_stall_names_its_partitions_and_is_right_again_once_all_move() -> None:
    stalled = looks(stuck(8), age=timedelta(seconds=90))
    verdicts = judge_landing("orders", settings(), stalled)
    (finding,) = verdicts.wrong
    assert (finding.kind, finding.topic, finding.since) == (LANDING_STALLED, "orders", NOW - 7 * STEP)
    assert finding.detail["partitions"] == [0]
    assert (finding.detail["lag"], finding.detail["lag_seconds"]) == (9, 90)
    moved = remembered(stalled, [Position(LANDING, "orders", 0, NOW + STEP, 8, 17)])
    assert (LANDING_STALLED, "orders") in judge_landing("orders", settings(), moved).right


def test_a_partition_may_wait_its_turn_while_its_lander_reads_others() -> None:
    def both(looked: int, other: str) -> History:
        history: History = {}
        for n in range(looked):
            at = NOW + n * STEP
            waiting = Position(LANDING, "orders", 0, at, 7, 9, owner="lander 0")
            history = remembered(history, [waiting, Position(LANDING, "other", 1, at, n, n + 50, owner=other)])
        return history

    def kinds(history: History) -> list[str]:
        return [finding.kind for finding in judge_landing("orders", settings(), history).wrong]

    assert kinds(both(7, "lander 1")) == [LANDING_STALLED]
    assert kinds(both(24, "lander 0")) == []
    assert (LANDING_STALLED, "orders") not in judge_landing("orders", settings(), both(24, "lander 0")).right
    assert kinds(both(25, "lander 0")) == [LANDING_STALLED]  # two minutes


def rising(minutes: int, lag_of: Callable[[int], int]) -> History:
    """Moving offsets, with a lag for each look."""
    return looks([(n * 10, n * 10 + lag_of(n)) for n in range(minutes * 12 + 1)])


def test_a_lag_that_never_falls_while_offsets_move_is_a_warning() -> None:
    assert lag_rises(one(rising(11, lambda n: n)))
    assert lag_rises(one(rising(11, lambda n: 5 + n + (n % 12) * 3)))  # it falls within each minute, and never below
    assert not lag_rises(one(rising(9, lambda n: n)))  # not long enough
    assert not lag_rises(one(rising(11, lambda n: 50)))  # the same lag
    assert not lag_rises(one(rising(11, lambda n: n if n % 60 else 0)))  # it reached the end once
    assert not lag_rises(one(looks([(7, 9 + n) for n in range(133)])))  # nothing moves: that is a stall
    outage = looks([(n, n) for n in range(120)] + [(120, 121 + n * 9) for n in range(20)] + [(130, 400)])
    assert not lag_rises(one(outage))  # it had no lag, stood still and goes on
    stood = looks([(n, n + 1 + n) for n in range(120)] + [(120, 900 + n) for n in range(20)])
    assert not lag_rises(one(stood))
    verdicts = judge_landing("orders", settings(), rising(11, lambda n: n))
    assert [finding.kind for finding in verdicts.wrong] == [LAG_RISING]
    assert (LAG_RISING, "orders") in judge_landing("orders", settings(), rising(11, lambda n: 50)).right


def test_a_lag_past_half_of_the_retention_pages() -> None:
    moving = [(n, n + 50) for n in range(8)]
    behind = judge_landing("orders", settings(2), looks(moving, age=timedelta(hours=25)))
    assert [finding.kind for finding in behind.wrong] == [LAG_NEAR_RETENTION]
    for retention, age in ((2, 23), (-1, 2_000)):
        verdicts = judge_landing("orders", settings(retention), looks(moving, age=timedelta(hours=age)))
        assert not verdicts.wrong
        assert (LAG_NEAR_RETENTION, "orders") in verdicts.right
    once = judge_landing("orders", settings(2), looks([(n, n) for n in range(8)] + [(8, 9)], age=timedelta(hours=25)))
    assert not once.wrong  # one batch of old records is no lag


@pytest.mark.parametrize(
    ("days", "policy", "contract", "age_days", "short"),
    [
        (14, "delete", 7, 0, False),
        (7, "delete", 7, 0, False),
        (6.9, "delete", 7, 0, True),
        (-1, "delete", 7, 0, False),
        (1, "compact", 7, 0, False),
        (1, "compact,delete", 7, 0, True),
        (1, "delete", None, 0, False),
        (7, "delete", 7, 3.4, False),
        (7, "delete", 7, 3.6, True),
        (7, "delete", None, 3.6, True),
    ],
)
def test_retention_against_its_floor(
    days: float, policy: str, contract: int | None, age_days: float, short: bool
) -> None:
    history = looks([(7, 9)] * 8, age=timedelta(days=age_days))
    verdicts = judge_retention(settings(days, policy), contract, history, NOW)
    assert [finding.kind for finding in verdicts.wrong] == [RETENTION_BELOW_FLOOR] * short
    assert verdicts.right == (frozenset() if short else {(RETENTION_BELOW_FLOOR, "orders")})


def test_the_lag_of_any_group_counts_and_one_that_is_not_known_yet_clears_nothing() -> None:
    group = looks([(7, 9)] * 8, age=timedelta(days=4), reader="billing")
    (finding,) = judge_retention(settings(7), 7, group, NOW).wrong
    assert finding.detail["floor_reason"] == "2 x the lag of billing, 4d"
    just_begun = looks([(7, 9)] * 2, age=timedelta(days=4), reader="billing")
    verdicts = judge_retention(settings(7), 7, just_begun, NOW)
    assert (verdicts.wrong, verdicts.right) == ((), frozenset())
    assert not judge_retention(settings(7), 7, {}, NOW, all_readers=False).right


@given(
    retention=st.one_of(st.just(-1), st.integers(0, 30 * DAY_MS)),
    contract=st.one_of(st.none(), st.integers(1, 30)),
    lags=st.dictionaries(st.sampled_from(["landing", "a", "b"]), st.timedeltas(timedelta(0), timedelta(days=20))),
)
def test_what_is_put_back_is_never_shorter_and_never_below_the_floor(
    retention: int, contract: int | None, lags: dict[str, timedelta]
) -> None:
    before = TopicSettings("orders", retention, -1, True, "delete")
    floor = floor_of(contract, lags)
    after = put_back(before, floor)
    assert not shorter(retention, after)
    assert not below_floor(TopicSettings("orders", after, -1, True, "delete"), floor)
    assert (after == retention) or below_floor(before, floor)
    # What the lag asks for is put back with room, or a lag that grows would be below it at once.
    if floor and floor.by_lag and after != retention:
        grown = {reader: lag + timedelta(seconds=5) for reader, lag in lags.items() if lag > timedelta(seconds=10)}
        assert not below_floor(TopicSettings("orders", after, -1, True, "delete"), floor_of(None, grown))


def test_the_floor_says_where_it_comes_from() -> None:
    assert floor_of(None, {}) is None
    assert floor_of(7, {"landing": timedelta(days=1)}) == Floor(7 * DAY_MS, "the contract")
    floor = floor_of(7, {"landing": timedelta(days=4), "b": timedelta(0)})
    assert floor == Floor(8 * DAY_MS, "2 x the lag of landing, 4d", by_lag=True)


def test_durations_as_a_person_writes_them() -> None:
    texts = {-1: "unlimited", 0: "0ms", 250: "250ms", 45_000: "45s", 5_400_000: "1h30m", 7 * DAY_MS: "7d"}
    texts |= {8 * DAY_MS + 3_540_000: "8d", 90_000: "1m30s", 60_000: "1m"}
    assert {given: duration_text(given) for given in texts} == texts
