"""What is done first about an incident: by its cause, bounded, and no more than the mode allows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import CAUSES, rule_of
from incident_pipelines.core.incidents.containment import Choice, containment_of, is_due_again, paused_days
from incident_pipelines.core.incidents.containment_actions import (
    KINDS,
    HoldWindows,
    RestoreRetention,
    RevokeAccess,
    RevokeWrites,
    StartLanders,
    action_from,
    described,
    is_ours_to_undo,
    key_of,
    target_of,
)
from incident_pipelines.core.incidents.holds import HOLD_KINDS, Hold, in_the_way, joined, may_overlap, publisher_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow
from incident_pipelines_tests.builders import write_catalog
from incident_pipelines_tests.stages.shop import (
    CATALOG,
    ORDER_STATES,
    ORDER_STATES_SQL,
    ORDERS,
    PAYMENTS,
    PLANS,
    STOCK,
    TURNOVER,
    TURNOVER_SQL,
)

NOW = datetime(2026, 3, 20, 12, 30, tzinfo=UTC)
TEN = TimeWindow.hour_of(NOW.replace(day=10, hour=10))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    variables = write_catalog(
        Path(tmp_path_factory.mktemp("catalog")),
        {
            "plans.yaml": PLANS,
            "orders.yaml": ORDERS,
            "payments.yaml": PAYMENTS,
            "stock.yaml": STOCK,
            "marts/order_states.yaml": ORDER_STATES,
            "marts/turnover.yaml": TURNOVER,
            "sql/marts/order_states.sql": ORDER_STATES_SQL,
            "sql/marts/turnover.sql": TURNOVER_SQL,
        },
        CATALOG,
    )
    return load_catalog(variables)


def signal(kind: str, dataset: str = "orders", window: TimeWindow | None = None, **changes: Any) -> RaisedSignal:
    values: dict[str, Any] = {"detail": {}, "occurred_at": NOW, "raised_at": NOW, **changes}
    return RaisedSignal(1, kind, "page", dataset, window, **values)


def incident(kind: str, window: TimeWindow | None = None, **changes: Any) -> Incident:
    rule = rule_of(kind)
    values: dict[str, Any] = {"datasets": ("orders",), "type": rule.type, "cause": rule.cause, **changes}
    return Incident(
        incident_id="INC-7",
        severity="P1",
        state="detected",
        title="title",
        source="sensor",
        window=window,
        began_at=NOW,
        detected_at=NOW,
        opened_at=NOW,
        **values,
    )


def days(first: int, last: int) -> TimeWindow:
    return TimeWindow(NOW.replace(day=first, hour=0, minute=0), NOW.replace(day=last, hour=0, minute=0) + DAY)


def chosen(catalog: Catalog, one: Incident, *signals: RaisedSignal, mode: Mode = "act") -> Choice:
    return containment_of(one, signals, catalog, mode, NOW)


def test_lost_events_lengthen_retention_start_landers_and_pause_what_is_made_from_them(catalog: Catalog) -> None:
    lost = signal("offsets_aged_out", window=TEN)
    choice = chosen(catalog, incident("offsets_aged_out", TEN), signal("offsets_aged_out", detail={"topic": "stock"}))
    paused = [one for one in choice.actions if isinstance(one, HoldWindows)]
    assert choice.actions[:3] == (RestoreRetention("orders"), RestoreRetention("stock"), StartLanders())
    assert [(one.kind, one.dataset, one.window) for one in paused] == [
        ("pause", "order_states", days(7, 10)),
        ("pause", "turnover", days(9, 10)),
    ]
    without = chosen(catalog, incident("offsets_aged_out"), lost)
    assert not any(isinstance(one, HoldWindows) for one in without.actions)


def test_changed_data_is_quarantined_and_whoever_did_it_loses_write_access(catalog: Catalog) -> None:
    detail = {"statements": [{"user_name": "ana"}, {"user_name": "ana"}, {"user_name": None}, "odd"]}
    next_hour = TimeWindow(TEN.end, TEN.end + HOUR)
    signals = [
        signal("window_changed_outside", window=TEN, detail=detail),
        signal("window_changed_outside", window=next_hour),
        signal("window_changed_outside", window=TimeWindow.hour_of(TEN.start - DAY), cleared_at=NOW),
        signal("reconciliation_gap", window=days(1, 2)),
    ]
    one = incident("window_changed_outside", TimeWindow(TEN.start - DAY, next_hour.end))
    assert [described(action) for action in chosen(catalog, one, *signals).actions] == [
        "revoke writes on raw.orders from ana",
        "quarantine orders [2026-03-10 10:00, 2026-03-10 12:00)",
        "pause order_states [2026-03-07 00:00, 2026-03-11 00:00)",
        "pause turnover [2026-03-09 00:00, 2026-03-11 00:00)",
    ]


def test_a_mart_and_a_dataset_of_one_window_are_held_as_they_are(catalog: Catalog) -> None:
    part = TimeWindow(NOW, NOW + timedelta(minutes=1))
    mart = chosen(catalog, incident("window_refused"), signal("window_refused", "turnover", part))
    assert [(one.dataset, one.window) for one in mart.actions if isinstance(one, HoldWindows)] == [
        ("turnover", TimeWindow.day_of(NOW))
    ]
    plans = chosen(catalog, incident("window_refused"), signal("window_refused", "plans", part))
    assert [(one.dataset, one.window) for one in plans.actions if isinstance(one, HoldWindows)] == [
        ("plans", catalog.whole)
    ]


def test_holds_are_bounded_by_the_catalogs_start_and_the_next_day(catalog: Catalog) -> None:
    endless = TimeWindow(datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
    for kind in ("offsets_aged_out", "window_changed_outside", "window_refused", "reconciliation_gap"):
        held = [
            one
            for one in chosen(catalog, incident(kind, endless), signal(kind, window=endless)).actions
            if isinstance(one, HoldWindows)
        ]
        assert held
        for one in held:
            assert one.window.start >= catalog.start
            assert one.window.end <= TimeWindow.day_of(NOW).end + DAY
    before = TimeWindow(endless.start, endless.start + HOUR)
    refused = chosen(catalog, incident("window_refused", before), signal("window_refused", window=before))
    assert refused.actions == ()


@pytest.mark.parametrize("kind", CAUSES)
def test_each_cause_is_contained_or_says_why_not_and_the_mode_is_kept(catalog: Catalog, kind: str) -> None:
    detail = {"sources": ["kafka"], "statements": [{"user_name": "ana"}]}
    one, raised = incident(kind, TEN), signal(kind, window=TEN, detail=detail)
    acted = chosen(catalog, one, raised)
    proposed = chosen(catalog, one, raised, mode="propose")
    assert bool(acted.actions) != bool(acted.nothing_because)
    assert all(is_ours_to_undo(action) for action in proposed.actions)
    assert {*proposed.actions, *proposed.forbidden} == {*acted.actions}
    assert not any(isinstance(a, RestoreRetention | RevokeWrites | RevokeAccess) for a in proposed.actions)
    assert chosen(catalog, one, raised, mode="observe").actions == ()


def test_a_breach_closes_the_datasets_and_one_without_datasets_closes_nothing(catalog: Catalog) -> None:
    reported: dict[str, Any] = {"type": "breach", "cause": "reported"}
    closed = chosen(catalog, incident("", None, datasets=("orders", "turnover"), **reported))
    assert closed.actions == (RevokeAccess(("landing.orders", "marts.turnover", "raw.orders")),)
    nothing = chosen(catalog, incident("", None, datasets=(), **reported))
    assert nothing.actions == ()
    assert nothing.nothing_because


def test_what_a_suspended_watch_guards_waits(catalog: Catalog) -> None:
    one = incident("offsets_aged_out")
    choice = containment_of(one, [], catalog, "act", NOW, {"retention"})
    assert choice.actions == (StartLanders(),)
    assert choice.suspended == (RestoreRetention("orders"),)
    assert containment_of(one, [], catalog, "act", NOW, {"landing"}).suspended == (StartLanders(),)


def test_only_what_is_wrong_again_is_done_again() -> None:
    later = NOW + timedelta(seconds=1)
    below = signal("retention_below_floor", detail={"topic": "orders"}, raised_at=later)
    assert is_due_again(RestoreRetention("orders"), NOW, [below])
    assert not is_due_again(RestoreRetention("orders"), later, [below])
    assert not is_due_again(RestoreRetention("stock"), NOW, [below])
    assert not is_due_again(StartLanders(), NOW, [below])
    over = signal("landing_stalled", raised_at=later, cleared_at=later)
    assert not is_due_again(StartLanders(), NOW, [over])
    assert is_due_again(StartLanders(), NOW, [signal("landing_stalled", raised_at=later)])


def test_an_action_is_read_as_it_was_written_and_its_key_tells_it_from_others() -> None:
    actions = [
        RestoreRetention("orders"),
        RestoreRetention("stock"),
        StartLanders(),
        HoldWindows("pause", "orders", TEN, "why"),
        HoldWindows("quarantine", "orders", TEN, "why"),
        HoldWindows("pause", "orders", days(1, 2), "why"),
        RevokeWrites("Ana O'Hara", "raw.orders"),
        RevokeAccess(("raw.orders",)),
        RevokeAccess(("raw.orders", "raw.plans")),
    ]
    assert [action_from(KINDS[type(one)], target_of(one)) for one in actions] == actions
    assert len({key_of("INC-7", one) for one in actions}) == len(actions)
    assert key_of("INC-7", HoldWindows("pause", "orders", TEN, "another")) == key_of("INC-7", actions[3])
    assert action_from("replay", {}) is None


def test_days_are_paused_as_far_back_as_a_mart_reaches(catalog: Catalog) -> None:
    midnight = TimeWindow(days(10, 10).end - HOUR, days(10, 10).end)
    assert paused_days(catalog, [("orders", midnight)]) == [("order_states", days(7, 10)), ("turnover", days(9, 10))]
    assert paused_days(catalog, [("turnover", midnight), ("nothing", midnight)]) == []
    assert joined([("a", days(3, 4)), ("b", days(1, 1)), ("a", days(5, 5)), ("a", days(7, 7))]) == [
        ("a", days(3, 5)),
        ("a", days(7, 7)),
        ("b", days(1, 1)),
    ]


HOLDS = st.builds(
    lambda hold_id, number, kind: Hold(
        hold_id=hold_id,
        dataset="orders",
        window=TEN,
        incident_id=f"INC-{number}",
        number=number,
        kind=kind,
        reason="",
        held_at=NOW,
    ),
    st.integers(1, 1000),
    st.integers(1, 4),
    st.sampled_from(HOLD_KINDS),
)


@given(st.lists(HOLDS, unique_by=lambda hold: hold.hold_id))
def test_of_those_that_hold_a_window_one_publishes_it_and_no_two_wait_for_each_other(asked: list[Hold]) -> None:
    stand: list[Hold] = []
    for hold in asked:
        if in_the_way(hold.kind, hold.number, stand) is None:
            stand.append(hold)
    publisher = publisher_of(stand)
    assert (publisher is None) == (not stand)
    recovering = {hold.number for hold in stand if hold.kind == "recovery"}
    assert len(recovering) <= 1
    if publisher:
        assert publisher.number == min(recovering or {hold.number for hold in stand})
        # Who publishes may go on to recover.
        assert in_the_way("recovery", publisher.number, stand) is None or recovering == {publisher.number}


@given(st.integers(0, 100), st.integers(1, 100))
def test_windows_that_a_span_overlaps(start: int, length: int) -> None:
    quarter = timedelta(minutes=15)
    span = TimeWindow(TEN.start + start * quarter, TEN.start + (start + length) * quarter)
    every = [TimeWindow(TEN.start + n * HOUR, TEN.start + (n + 1) * HOUR) for n in range(-30, 80)]
    assert list(may_overlap(span, days=False)) == [w for w in every if w.start < span.end and span.start < w.end]
    every = [TimeWindow.day_of(TEN.start + n * DAY) for n in range(-2, 8)]
    assert list(may_overlap(span, days=True)) == [w for w in every if w.start < span.end and span.start < w.end]
