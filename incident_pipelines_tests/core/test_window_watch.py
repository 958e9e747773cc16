"""Which windows are compared when, and what the comparison shows."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core import window_watch
from incident_pipelines.core.publication import WindowContent
from incident_pipelines.core.window_watch import (
    RECENT,
    SLICES,
    Found,
    WatchedWindow,
    due,
    outside_changes,
    right_again,
    spans,
)

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
COLUMNS = ("a bigint NOT NULL",)


def window(hours_ago: int, dataset: str = "orders", rows: int = 5, digest: int = 7, **changes: object) -> WatchedWindow:
    start = NOW - hours_ago * HOUR
    content = WindowContent(rows, digest, COLUMNS)
    values = {"published_at": start + HOUR, "owner": "tester", "content": content, **changes}
    return WatchedWindow(dataset, start, start + HOUR, **values)  # pyright: ignore[reportArgumentType]


def test_recent_windows_are_compared_every_time_and_old_ones_once_in_all_turns() -> None:
    recent = [window(1), window(47), window(300, published_at=NOW - RECENT + HOUR)]
    old = [window(hours) for hours in range(400, 900)]
    times = {w.start: 0 for w in (*recent, *old)}
    for turn in range(SLICES):
        chosen = due([*recent, *old], NOW, turn + 31, ())
        assert len(chosen) <= len(recent) + len(old) // SLICES + 1
        for seen in chosen:
            times[seen.start] += 1
    assert {times[w.start] for w in recent} == {SLICES}
    assert {times[w.start] for w in old} == {1}


def test_recent_windows_past_the_most_rows_take_their_turn() -> None:
    huge = [window(hours, rows=window_watch.RECENT_ROWS // 4) for hours in range(1, 40)]
    chosen = due(huge, NOW, 0, ())
    assert [w.start for w in chosen if w.start > NOW - 5 * HOUR] == [w.start for w in huge[:4]]
    assert len(chosen) <= 5
    assert {w.start for turn in range(SLICES) for w in due(huge, NOW, turn, ())} == {w.start for w in huge}


def test_what_was_wrong_is_looked_at_until_it_is_right() -> None:
    old = window(999)
    assert all(old in due([old, window(1)], NOW, turn, [("orders", old.start)]) for turn in range(SLICES))


def test_windows_that_follow_each_other_are_one_span_with_what_lies_between() -> None:
    windows = [window(9), window(8), window(5, content=None), window(4), window(2), window(3, "payments")]
    found = spans(windows, windows, ())
    assert [(s.dataset, s.start, s.end, len(s.windows)) for s in found] == [
        ("orders", None, NOW - 5 * HOUR, 2),
        ("orders", NOW - 4 * HOUR, None, 2),
        ("payments", None, None, 1),
    ]


def test_windows_with_other_columns_are_read_by_themselves() -> None:
    other = WindowContent(3, 1, ("a bigint NOT NULL", "b text"))
    windows = [window(5), window(4, content=other), window(3, content=WindowContent(0, 0, ())), window(2)]
    assert [(s.columns, len(s.windows)) for s in spans(windows, windows, ())] == [
        (COLUMNS, 1),
        (other.columns, 2),
        (COLUMNS, 1),
    ]


def test_rows_that_no_publish_wrote_show_and_windows_without_rows_too() -> None:
    windows = [window(5), window(4), window(1, rows=0, digest=0)]
    (span,) = spans(windows, windows, ())
    there = [Found(NOW - 5 * HOUR, 5, 7), Found(NOW - 3 * HOUR, 1, 9)]
    changes = outside_changes(span, there)
    assert [(c.start, c.rows_stored, c.rows_found) for c in changes] == [
        (NOW - 4 * HOUR, 5, 0),
        (NOW - 3 * HOUR, 0, 1),
    ]
    assert outside_changes(span, [Found(NOW - 5 * HOUR, 5, None), Found(NOW - 4 * HOUR, 5, 7)])[0].digest_found is None


def test_only_what_was_compared_is_right_again() -> None:
    windows = [window(5), window(4, content=None)]
    read = spans(windows, windows, ())
    places = [("orders", NOW - 5 * HOUR), ("orders", NOW - 4 * HOUR), ("orders", NOW - 9 * HOUR), ("other", NOW)]
    assert right_again(read, places, {}) == [places[0], places[2]]
    assert right_again(read, places, {places[2]: None}) == [places[0]]


@given(
    hours=st.lists(st.integers(0, 60), unique=True, min_size=1),
    unknown=st.sets(st.integers(0, 60)),
    chosen=st.sets(st.integers(0, 60)),
    doubted=st.integers(-5, 70),
)
def test_spans_hold_each_chosen_window_once_and_overlap_nowhere(
    hours: list[int], unknown: set[int], chosen: set[int], doubted: int
) -> None:
    windows = [window(ago, content=None) if ago in unknown else window(ago) for ago in hours]
    wanted = [w for ago, w in zip(hours, windows, strict=True) if ago in chosen]
    found = spans(windows, wanted, [("orders", NOW - doubted * HOUR)])
    read = [w for span in found for w in span.windows]
    assert len(read) == len({w.start for w in read})
    assert {w.start for w in wanted if w.content} <= {w.start for w in read}
    for ago in range(-5, 70):
        assert sum(span.holds(NOW - ago * HOUR) for span in found) <= 1
    for span in found:
        assert all(span.holds(w.start) for w in span.windows)
    if not unknown:
        assert any(span.holds(NOW - doubted * HOUR) for span in found)
