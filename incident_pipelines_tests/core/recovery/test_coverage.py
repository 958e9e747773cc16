"""Who covers a window, who is taken, what would be gone, and what is found before anything happens."""

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.contracts.decoder import Envelope, Envelopes, microseconds
from incident_pipelines.core.recovery.counting import WindowCounts
from incident_pipelines.core.recovery.coverage import (
    KAFKA,
    LANDING_LOG,
    Coverage,
    Recoverability,
    counted,
    judged,
    silent,
    unusable,
)
from incident_pipelines.core.recovery.findings import ONLY_COPY_EXPIRING, RECOVERY_SOURCE_UNUSABLE, Findings, find
from incident_pipelines.core.recovery.shown import gone_text
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WINDOW = TimeWindow.day_of(NOW - 2 * DAY)
TOMORROW = NOW + timedelta(hours=20)
OTHER = "audit_log"


def has(source: str, events: int, until: datetime | None = None, from_topics: int | None = None) -> Coverage:
    return counted(source, "orders", WINDOW, events, until=until, from_topics=from_topics)


def down(source: str) -> Coverage:
    return silent(source, "orders", [WINDOW], "down")[0]


def day(*coverages: Coverage, declared: int | None = None, settled: bool = True) -> Recoverability:
    return Recoverability(
        "orders", WINDOW, settled, declared, tuple(judged(one, declared, settled=settled) for one in coverages)
    )


def names(coverages: Iterable[Coverage]) -> list[str]:
    return [one.source for one in coverages]


@pytest.mark.parametrize(
    ("events", "declared", "settled", "complete"),
    [
        (5, 5, True, True),
        (5, 5, False, True),
        (4, 5, True, False),
        (4, 5, False, None),
        (6, 5, True, None),
        (5, None, True, None),
        (0, 0, True, True),
    ],
)
def test_a_control_total_proves_what_is_complete(
    events: int, declared: int | None, settled: bool, complete: bool | None
) -> None:
    assert judged(has(KAFKA, events), declared, settled=settled).complete is complete


def test_silence_and_uncounted_prove_nothing() -> None:
    assert judged(down(KAFKA), 0, settled=True) == down(KAFKA)
    uncounted = Coverage(KAFKA, "orders", WINDOW, replays=True, at_most=9)
    assert judged(uncounted, 9, settled=True).complete is None


@pytest.mark.parametrize(
    ("coverages", "declared", "taken"),
    [
        ([has(KAFKA, 9), has(OTHER, 9)], 9, [KAFKA]),  # both cover: the contract's order
        ([has(KAFKA, 8), has(OTHER, 9)], 9, [OTHER]),  # the first to cover wins
        ([has(KAFKA, 8), has(OTHER, 7)], 9, [KAFKA, OTHER]),  # none does: they combine
        ([has(KAFKA, 8), has(OTHER, 9)], None, [OTHER]),  # nobody is known to have more
        ([has(KAFKA, 8), down(OTHER)], None, [KAFKA]),  # who is down cannot be taken, and nothing is sure
        ([has(KAFKA, 0), has(OTHER, 0)], None, []),
        ([has(KAFKA, 0), has(OTHER, 0)], 0, [KAFKA]),  # complete: there was nothing
        ([down(KAFKA)], 9, []),
    ],
)
def test_the_first_to_cover_wins_or_several_combine(
    coverages: list[Coverage], declared: int | None, taken: list[str]
) -> None:
    assert names(day(*coverages, declared=declared).chosen) == taken


@pytest.mark.parametrize(
    ("others", "declared", "least", "most", "told"),
    [
        ([has(KAFKA, 9)], 9, 0, 0, "nothing gone"),
        ([has(KAFKA, 9)], None, 0, 0, "nothing gone"),
        ([has(KAFKA, 4)], 9, 5, 5, "5 gone"),
        ([has(KAFKA, 4), has(OTHER, 3)], 9, 2, 5, "2 to 5 gone"),
        ([has(KAFKA, 0)], 9, 9, 9, "9 gone"),
        ([], 9, 9, 9, "9 gone"),
        ([down(KAFKA)], 9, 0, 9, "0 to 9 gone (kafka unknown)"),
        ([down(KAFKA), has(OTHER, 9)], 9, 0, 0, "nothing gone"),
        ([Coverage(KAFKA, "orders", WINDOW, replays=True, at_most=7)], 9, 2, 9, "2 to 9 gone (kafka unknown)"),
    ],
)
def test_what_would_be_gone_without_the_landing_log(
    others: list[Coverage], declared: int | None, least: int, most: int | None, told: str
) -> None:
    found = day(has(LANDING_LOG, 9), *others, declared=declared)
    assert (found.gone_without().at_least, found.gone_without().at_most) == (least, most)
    assert gone_text(found) == told


def test_nobody_knows_what_a_silent_log_holds() -> None:
    assert day(down(LANDING_LOG), has(KAFKA, 4)).gone_without().at_most is None
    assert day(down(LANDING_LOG), has(KAFKA, 4), declared=9).gone_without().at_most == 5


@given(st.integers(0, 20), st.lists(st.sets(st.integers(0, 19)), min_size=1, max_size=3))
def test_the_bounds_hold_for_whatever_the_sources_have(landed: int, held: list[set[int]]) -> None:
    """Nested holdings, as assumed: each source has the first so many of what was landed."""
    everything = set(range(landed))
    nested = [set(range(min(len(one), landed))) for one in held]
    gone = len(everything - set().union(*nested))
    found = day(has(LANDING_LOG, landed), *(has(f"s{number}", len(one)) for number, one in enumerate(nested)))
    bound = found.gone_without()
    assert bound.at_most is not None
    assert bound.at_least <= gone <= bound.at_most


def test_a_last_copy_that_ages_out_is_found() -> None:
    found = find([day(has(LANDING_LOG, 0), has(KAFKA, 9, TOMORROW))], {}, NOW)
    (fact,) = [one for one in found.found if one.kind == ONLY_COPY_EXPIRING]
    assert fact.detail["events"] == 9
    assert "9 events of orders" in summarize(fact)
    assert "kafka" in summarize(fact)


@pytest.mark.parametrize(
    "coverages",
    [
        [has(LANDING_LOG, 9), has(KAFKA, 9, TOMORROW)],
        [has(LANDING_LOG, 0), has(KAFKA, 9, NOW + 2 * DAY)],
        [has(LANDING_LOG, 0), has(KAFKA, 0, TOMORROW)],
        [down(LANDING_LOG), has(KAFKA, 9, TOMORROW)],
    ],
)
def test_what_is_kept_elsewhere_or_longer_is_not(coverages: list[Coverage]) -> None:
    assert ONLY_COPY_EXPIRING not in [one.kind for one in find([day(*coverages)], {}, NOW).found]


def test_what_a_silent_source_leaves_open_is_not_decided() -> None:
    found = find([day(down(LANDING_LOG), has(KAFKA, 9, TOMORROW))], {}, NOW)
    assert (ONLY_COPY_EXPIRING, "orders 2026-11-18") in found.undecided
    assert (RECOVERY_SOURCE_UNUSABLE, "orders kafka") in found.undecided
    silent_source = find([day(has(LANDING_LOG, 9), down(OTHER))], {}, NOW)
    assert (RECOVERY_SOURCE_UNUSABLE, f"orders {OTHER}") in silent_source.undecided
    assert find([day(has(LANDING_LOG, 9), has(OTHER, 9))], {}, NOW) == Findings((), frozenset())


@pytest.mark.parametrize(
    ("source", "promise", "found"),
    [
        (has(OTHER, 9), None, False),
        (has(OTHER, 8), None, True),
        (has(OTHER, 8), timedelta(days=30), True),
        (has(OTHER, 8), timedelta(days=1), False),  # it never promised to keep it that long
        (unusable(OTHER, "orders", [WINDOW], "no such folder")[0], timedelta(days=1), True),
        (down(OTHER), None, False),
        (has(KAFKA, 4), None, False),  # only 4 ever came by a topic
        (has(KAFKA, 3), None, True),
    ],
)
def test_a_promise_that_cannot_be_kept_is_found(source: Coverage, promise: timedelta | None, found: bool) -> None:
    days = [day(has(LANDING_LOG, 9, from_topics=4), source)]
    facts = find(days, {("orders", source.source): promise}, NOW).found
    assert [one.kind for one in facts] == ([RECOVERY_SOURCE_UNUSABLE] if found else [])
    if found:
        assert f"names {source.source} as a recovery source" in summarize(facts[0])
    unsettled = [replace(one, settled=False) for one in days]
    later = find(unsettled, {("orders", source.source): promise}, NOW).found
    assert bool(later) == source.broken  # what is still on its way is not missing


def test_events_are_counted_once_in_the_window_of_their_time(rng: random.Random) -> None:
    windows = [TimeWindow(WINDOW.start + number * HOUR, WINDOW.start + (number + 1) * HOUR) for number in (0, 1, 3)]
    counts, expected = WindowCounts(windows), [set[str]() for _ in windows]
    oldest: list[int | None] = [None] * 3
    for _ in range(20):
        batch: list[Envelope] = []
        sent: list[int | None] = []
        for _ in range(rng.randrange(1, 200)):
            event_id = str(rng.randrange(300))
            # An event has one time, whoever tells of it.
            time = microseconds(WINDOW.start) + int(event_id) * 60_000_000 - 30 * 60_000_000
            batch.append(Envelope(time, event_id, "x", None, None))
            sent.append(rng.choice([None, time + rng.randrange(1_000)]))
            for number, window in enumerate(windows):
                if microseconds(window.start) <= time < microseconds(window.end):
                    expected[number].add(event_id)
                    at = sent[-1]
                    if at is not None:
                        oldest[number] = at if oldest[number] is None else min(oldest[number] or 0, at)
        counts.add(Envelopes.of(batch), [b"" for _ in batch], sent)
    assert counts.events() == [len(ids) for ids in expected]
    assert counts.oldest() == oldest
    nameless = Envelopes.of([Envelope(microseconds(WINDOW.start), None, None, None, None, "bad")] * 3)
    before = counts.events()[0]
    counts.add(nameless, [b"one", b"two", b"one"], [None] * 3)
    assert counts.events()[0] == before + 2
    with pytest.raises(ValueError, match="overlap"):
        WindowCounts([windows[1], windows[0]])
