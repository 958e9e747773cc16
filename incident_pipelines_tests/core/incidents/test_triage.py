"""Severity, deadlines, response times, triage and report: what a person is told, in words that hold."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.incidents.incident import INCIDENT_TYPES, STATES, Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import MODES
from incident_pipelines.core.incidents.next_steps import next_steps
from incident_pipelines.core.incidents.response_times import duration_text, mean_times, response_times
from incident_pipelines.core.incidents.severity import (
    SEVERITIES,
    Impact,
    IncidentSeverity,
    graver,
    postmortem_due,
    respond_by,
    severity_of_impact,
)
from incident_pipelines.core.incidents.status_report import escaped, status_report
from incident_pipelines.core.incidents.timeline import Entry
from incident_pipelines.core.incidents.triage import Audience, triage
from incident_pipelines.core.windows import TimeWindow

NOON = datetime(2026, 3, 6, 12, tzinfo=UTC)  # a Friday
MINUTE = timedelta(minutes=1)


def incident(**changes: Any) -> Incident:
    values: dict[str, Any] = {
        "incident_id": "INC-1",
        "type": "data_loss",
        "cause": "log_retention",
        "severity": "P0",
        "state": "detected",
        "title": "Events aged out",
        "source": "sensor",
        "datasets": ("payments",),
        "window": None,
        "began_at": NOON,
        "detected_at": NOON + MINUTE,
        "opened_at": NOON + MINUTE,
        "last_signal_at": NOON,
    }
    return Incident(**{**values, **changes})


def signal(kind: str = "offsets_aged_out", **changes: Any) -> RaisedSignal:
    detail = {"topic": "payments", "partition": 1, "records_at_most": 1200}
    return replace(RaisedSignal(1, kind, "critical", "payments", None, detail, NOON, NOON + MINUTE), **changes)


@pytest.mark.parametrize(
    ("impact", "severity"),
    [
        (Impact(breach=True), "P0"),
        (Impact(decisions_affected=True, quality_degraded=True), "P0"),
        (Impact(pipeline_down=True, quality_degraded=True), "P1"),
        (Impact(contract_broken=True), "P1"),
        (Impact(quality_degraded=True), "P2"),
        (Impact(), "P3"),
    ],
)
def test_the_decision_tree_asks_the_gravest_first(impact: Impact, severity: IncidentSeverity) -> None:
    assert severity_of_impact(impact) == severity
    assert graver(severity, "P3") == severity


def test_deadlines_are_those_of_the_table_and_weekends_are_no_business_days() -> None:
    assert [respond_by(severity, NOON) - NOON for severity in SEVERITIES] == [
        timedelta(minutes=15),
        timedelta(hours=1),
        timedelta(hours=4),
        timedelta(days=3),  # Friday to Monday
    ]
    assert respond_by("P3", NOON + timedelta(days=1)) == NOON + timedelta(days=3)
    assert [postmortem_due(severity, NOON) for severity in SEVERITIES] == [
        NOON + timedelta(hours=48),
        NOON + timedelta(weeks=1),
        None,
        None,
    ]


def test_times_say_how_they_were_computed() -> None:
    done = incident(
        acknowledged_at=NOON + 4 * MINUTE,
        acknowledged_by="ana",
        contained_at=NOON + 2 * MINUTE,
        recovered_at=NOON + 6 * MINUTE,
        state="recovered",
    )
    times = {time.name: time for time in response_times(done)}
    assert {name: time.seconds for name, time in times.items()} == {
        "time to detect": 60,
        "time to respond": 180,
        "time to contain": 60,
        "time to recover": 300,
    }
    assert times["time to respond"].how == (
        "from 2026-03-06 12:01:00 UTC (when it was known) to 2026-03-06 12:04:00 UTC (acknowledged by ana)"
    )
    assert response_times(incident())[3].how.endswith("not over yet")
    assert response_times(incident(state="resolved"))[3].how.endswith("never came to it")


def test_means_count_what_is_known_only() -> None:
    known = incident(recovered_at=NOON + 11 * MINUTE)
    slower = incident(detected_at=NOON + 3 * MINUTE)
    reported = incident(source="person", began_at=NOON, detected_at=NOON)
    means = mean_times([known, slower, reported])
    assert (means.mttd_seconds, means.mttr_seconds) == (120, 600)
    assert "over 2 incidents; " in means.how
    assert "over 1 incidents that were proven recovered" in means.how
    assert mean_times([reported]).mttd_seconds is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.42, "0.4 s"), (43.2, "43 s"), (720, "12 min"), (11_100, "3 h 5 min"), (187_200, "2 d 4 h")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_five_questions_are_answered() -> None:
    refused = signal(
        "window_refused",
        signal_id=2,
        window=TimeWindow(NOON, NOON + timedelta(hours=1)),
        detail={"failed_rules": [{"rule": "amount_is_present"}, "odd"]},
    )
    gap = signal("reconciliation_gap", dataset="bank", detail={"missing": 3, "money_at_stake": {"EUR": "12.50"}})
    told = (Audience("payments", "billing", ("finance",), False), Audience("revenue", "finance", (), True))
    answers = triage(incident(), [signal(), signal(), refused, gap], told, NOON + 10 * MINUTE)
    assert answers.what_data == (
        "payments: at most 2,400 records of 1 partition aged out (offset gaps bound a loss, they do not count it); "
        "1 window refused by amount_is_present",
        "bank: 3 missing, 0 unexpected, 0 mismatched rows in the last comparison",
        "window: no window of time is named",
    )
    assert answers.who_is_affected == (
        "payments: owner billing; consumers finance",
        "revenue (downstream): owner finance; no consumers are declared",
    )
    assert answers.since_when[0] == "2026-03-06 12:00:00 UTC, 10 min ago"
    assert answers.still_going_on[0] == "yes, as far as is known: not contained"
    assert answers.what_it_costs == ("12.50 EUR at stake by bank",)


def test_what_is_not_known_is_said_to_be_so() -> None:
    reported = incident(source="person", datasets=(), began_at=NOON, detected_at=NOON, last_signal_at=None)
    answers = triage(reported, [], (), NOON + MINUTE)
    assert answers.what_data == ("no dataset was named",)
    assert answers.since_when == ("not known; reported 2026-03-06 12:00:00 UTC, 60 s ago",)
    assert answers.what_it_costs == ("not known yet: none of its signals names money",)


def test_whether_it_goes_on_is_told_by_what_came_after_containment() -> None:
    contained = incident(state="scoped", contained_at=NOON + 5 * MINUTE)
    now = NOON + 10 * MINUTE

    def first(one: Incident, *signals: RaisedSignal) -> str:
        return triage(one, signals, (), now).still_going_on[0]

    assert first(contained, signal()) == "contained since 12:05:00 UTC"
    late = replace(contained, last_signal_at=NOON + 6 * MINUTE)
    assert first(late, signal()) == "yes: signals came after containment at 12:05:00"
    cleared = signal("window_changed_outside", cleared_at=NOON + 7 * MINUTE)
    assert first(contained, cleared) == "no signal lasts any more; not yet proven right"
    assert first(contained, cleared, signal()) == "contained since 12:05:00 UTC"
    by_hand = incident(state="resolved", resolution="by_hand")
    assert first(by_hand) == "no: resolved by a person's word, not proven"
    stopped = incident(stopped_at=NOON, stopped_by="ana", stopped_because="wait")
    assert triage(stopped, (), (), now).still_going_on[-1] == "STOPPED 10 min ago by ana: wait"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "topic",
        "partition",
        "records_at_most",
        "failed_rules",
        "money_at_stake",
        "rows_found",
        "rows_stored",
        "missing",
        "summary",
    ]
)


@given(
    kind=st.sampled_from(
        ["offsets_aged_out", "window_refused", "window_changed_outside", "reconciliation_gap", "topic_recreated", "x"]
    ),
    detail=st.dictionaries(NAMES, JSON),
    state=st.sampled_from(STATES),
    severity=st.sampled_from(SEVERITIES),
    kind_of_incident=st.sampled_from(INCIDENT_TYPES),
)
def test_whatever_a_signal_holds_an_incident_can_be_told(
    kind: str, detail: dict[str, Any], state: Any, severity: IncidentSeverity, kind_of_incident: Any
) -> None:
    one = incident(state=state, severity=severity, type=kind_of_incident, resolved_at=NOON)
    answers = triage(one, [signal(kind, detail=detail)], (), NOON + MINUTE)
    assert all(getattr(answers, name) for name in answers.__dataclass_fields__)
    for mode in MODES:
        for planned in (False, True):
            assert next_steps(one, mode, NOON, planned=planned)


def test_the_first_step_is_to_acknowledge_with_the_time_that_is_left() -> None:
    (first, second) = next_steps(incident(), "act", NOON + 5 * MINUTE, planned=False)
    assert first == "`incident-pipelines incident ack INC-1` until 2026-03-06 12:16 UTC (11 min left)"
    assert "retention is put back" in second
    assert "4 min overdue" in next_steps(incident(), "act", NOON + 20 * MINUTE, planned=False)[0]
    watched = next_steps(incident(acknowledged_at=NOON), "observe", NOON, planned=False)
    assert watched == (
        "mode observe: the system only watches; follow the runbook, then "
        "`incident-pipelines incident resolve INC-1 --because TEXT`",
    )


def test_a_report_shows_what_was_written_and_takes_none_of_it_for_markdown() -> None:
    nasty = "# <script>alert(1)</script> | [x](http://h) `rm` **b**\x1b[31m\nsecond"
    one = incident(title=nasty, commander="ana|bob")
    entries = [Entry(1, NOON, "noted", "person", "a_b", nasty)]
    answers = triage(one, [], (), NOON)
    text = status_report(
        one, answers, response_times(one), next_steps(one, "act", NOON, planned=False), entries, (), NOON
    )
    assert "\n# " not in text
    assert text.count("\n## ") == 8
    assert "\x1b" not in text
    for raw in ("<script", "[x](", "**b**", "| [x"):
        assert raw not in re.sub(r"\\.", "", text)
    assert r"\# \<script\>alert(1)\</script\> \| \[x\](http://h)" in text
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert row.replace(r"\|", "").count("|") == 5
    assert escaped("plain words, 12 %.") == "plain words, 12 %."
