"""What a game day is held against."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.recovery.loss import DatasetLoss, LossStatement
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.example.gameday.catalogue import SCENARIOS
from incident_pipelines.example.gameday.measure import Course
from incident_pipelines.example.gameday.price_bug import BUGS, WRONG
from incident_pipelines.example.gameday.run import Outcome, judge
from incident_pipelines.example.gameday.scenario import Fault
from incident_pipelines.example.gameday.truth import Before, Verdict, copies_unstated, stated_otherwise

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)


def fault(**changes: object) -> Fault:
    values: dict[str, object] = {
        "injured_at": AT,
        "breached_at": AT + timedelta(seconds=20),
        "over_at": AT + timedelta(seconds=30),
        "span": TimeWindow(AT - DAY, AT),
        "aged_out": True,
    }
    return Fault(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def course(signal: float, recovered: float | None, contained_after: float | None = 1) -> Course:
    ended = None if recovered is None else AT + timedelta(seconds=recovered)
    state = "recovered" if ended else "escalated"
    signal_at = AT + timedelta(seconds=signal)
    contained_at = None if contained_after is None else signal_at + timedelta(seconds=contained_after)
    return Course("INC-1", state, signal_at, contained_at, ended)


def verdict(count: int = 0, duplicates: int = 0) -> Verdict:
    return Verdict(
        affected=10, recovered=7, unrecoverable=3, unknown=0, duplicates=duplicates, differences=(), count=count
    )


def loss(recovered: int, unrecoverable: int, unknown: int | None = 0) -> LossStatement:
    one = DatasetLoss(
        dataset="views",
        producer="web",
        declared=None,
        recovered=recovered,
        unrecoverable=unrecoverable,
        unknown_at_most=unknown,
    )
    return LossStatement(incident_id="INC-1", as_of=AT, first_lost=None, last_lost=None, datasets=(one,))


def missed(course_: Course, verdict_: Verdict) -> set[str]:
    return {name for name, target in judge(fault(), course_, verdict_).items() if not target.met}


def test_all_targets_are_met_at_their_limits() -> None:
    assert missed(course(30 + 60, 30 + 300, contained_after=10), verdict()) == set()


@pytest.mark.parametrize(
    ("late", "verdict_", "expected"),
    [
        (course(30 + 60.2, 100), verdict(), {"signal"}),
        (course(40, 30 + 300.2), verdict(), {"recovered"}),
        (course(40, None), verdict(), {"recovered"}),
        (course(40, 100, contained_after=10.2), verdict(), {"contained"}),
        (course(40, None, contained_after=None), verdict(), {"contained", "recovered"}),
        (Course(), verdict(), {"signal", "contained", "recovered"}),
        (course(40, 50), verdict(count=1), {"truth"}),
        (course(40, 50), verdict(duplicates=1), {"duplicates"}),
    ],
)
def test_each_target_can_be_missed(late: Course, verdict_: Verdict, expected: set[str]) -> None:
    assert missed(late, verdict_) == expected


def test_times_count_from_the_breach_or_from_when_nothing_holds_the_fault_whichever_is_later() -> None:
    seen = course(42, 100)
    outcome = Outcome(name="x", seed=1, fault=fault(), course=seen, verdict=verdict(), targets={})
    figures = outcome.to_json()
    assert (figures["seconds_to_breach"], figures["seconds_to_signal"]) == (20.0, 12.0)
    assert (figures["seconds_to_contain"], figures["seconds_to_recovered"]) == (13.0, 70.0)


def test_containment_is_held_against_the_signal_however_late_that_was() -> None:
    late = judge(fault(), course(200, 250, contained_after=4), verdict())
    assert (late["signal"].met, late["contained"].met, late["contained"].measured) == (False, True, "4.0 s")
    early = judge(fault(), course(10, 250, contained_after=15), verdict())
    assert (early["signal"].met, early["contained"].met) == (True, False)


def test_what_is_noticed_before_the_fault_is_over_is_measured_from_when_it_could_be() -> None:
    early = fault(noticed_from=AT + timedelta(seconds=20), over_at=AT + timedelta(seconds=200))
    outcome = Outcome(name="x", seed=1, fault=early, course=course(25, 240), verdict=verdict(), targets={})
    figures = outcome.to_json()
    assert (figures["seconds_to_signal"], figures["seconds_to_contain"]) == (5.0, 6.0)
    assert figures["seconds_to_recovered"] == 40.0
    late = judge(early, course(20 + 60.2, 200 + 300.2), verdict())
    assert not late["signal"].met
    assert not late["recovered"].met


@pytest.mark.parametrize(
    ("statement", "gone", "back", "differing"),
    [
        (loss(7, 3), 3, 7, 0),
        (loss(7, 4), 3, 7, 1),
        (loss(9, 3), 3, 7, 2),
        (loss(7, 3, unknown=5), 3, 7, 1),
        (loss(7, 3, unknown=None), 3, 7, 1),
        (None, 0, 0, 0),
        (None, 3, 0, 3),
        (None, 0, 7, 7),
    ],
)
def test_a_loss_statement_is_compared_to_the_event(
    statement: LossStatement | None, gone: int, back: int, differing: int
) -> None:
    assert stated_otherwise("views", statement, gone, back, fault(), Before())[0] == differing


def test_rows_put_back_are_no_events_brought_back() -> None:
    assert stated_otherwise("views", None, 0, 7, fault(aged_out=False), Before())[0] == 0


def test_what_was_lost_before_may_be_stated_again_and_what_was_brought_back_before_counts_no_more() -> None:
    before = Before({"views": frozenset({b"1", b"2"})}, {"INC-1": loss(4, 2)})
    assert stated_otherwise("views", loss(11, 5), 3, 7, fault(), before)[0] == 0
    assert stated_otherwise("views", loss(11, 3), 3, 7, fault(), before)[0] == 0
    assert stated_otherwise("views", loss(11, 4), 3, 7, fault(), before)[0] == 1
    assert stated_otherwise("views", loss(7, 5), 3, 7, fault(), before)[0] == 4


def test_copies_that_were_sent_have_to_be_stated() -> None:
    sent = fault(copies={"views": 5})
    stated = replace(loss(0, 0), datasets=(replace(loss(0, 0).datasets[0], duplicates=4),))
    assert [copies_unstated(name, stated, sent)[0] for name in ("views", "others")] == [1, 0]
    assert copies_unstated("views", None, sent)[0] == 5
    assert copies_unstated("views", stated, fault(copies={"views": 4}))[0] == 0


def test_every_bug_fits_the_sql_that_ships() -> None:
    for mart, (right, wrong) in BUGS.items():
        text = load_catalog({}).marts[mart].sql
        assert text.count(right) == 1
        assert wrong not in text
        assert mart in WRONG


def test_every_game_day_has_its_own_name_and_says_what_happens() -> None:
    assert all(name == one.name and one.summary.endswith(".") and one.causes for name, one in SCENARIOS.items())
