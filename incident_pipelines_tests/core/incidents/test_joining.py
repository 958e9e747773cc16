"""One incident for one cause: which signals come together, and what they make of an incident."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.incidents.causes import CAUSES, rule_of, severity_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal, State
from incident_pipelines.core.incidents.joining import datasets_of, grown, hull, incident_for, relations, reopens
from incident_pipelines.core.signals import GRADINGS
from incident_pipelines.core.windows import TimeWindow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
RELATED = {
    "payments": frozenset({"payments", "revenue"}),
    "orders": frozenset({"orders", "funnel"}),
    "revenue": frozenset({"revenue", "payments"}),
    "bank_warehouse": frozenset({"bank_warehouse", "payments"}),
}


def window(hour: int, hours: int = 1) -> TimeWindow:
    start = NOON.replace(hour=hour)
    return TimeWindow(start, start + hours * HOUR)


def signal(
    kind: str = "window_refused",
    dataset: str = "payments",
    of: TimeWindow | None = None,
    at: datetime = NOON,
    severity: str = "page",
    **detail: Any,
) -> RaisedSignal:
    return RaisedSignal(7, kind, severity, dataset, of, detail, at, at)


def incident(
    cause: str = "rules_broken",
    datasets: tuple[str, ...] = ("payments",),
    of: TimeWindow | None = None,
    last: datetime = NOON - 5 * HOUR,
    state: State = "detected",
    incident_id: str = "INC-1",
) -> Incident:
    return Incident(
        incident_id=incident_id,
        type="quality_degradation",
        cause=cause,
        severity="P1",
        state=state,
        title="t",
        source="check",
        datasets=datasets,
        window=of,
        began_at=last,
        detected_at=last,
        opened_at=last,
        last_signal_at=last,
        signals=1,
    )


def joins(raised: RaisedSignal, *open_incidents: Incident) -> str | None:
    found = incident_for(raised, (raised.dataset,), open_incidents, RELATED)
    return found and found.incident_id


def widened(before: Incident, raised: RaisedSignal, datasets: tuple[str, ...]) -> Incident:
    """The incident with one more signal, after one for its window."""
    return grown(before, raised, datasets, published=False, joined={("payments", window(10))})


@pytest.mark.parametrize(
    ("raised", "into"),
    [
        (signal(of=window(10)), True),
        (signal(of=window(11)), True),  # touches
        (signal(of=window(9)), True),
        (signal(of=window(8, 8)), True),  # holds it
        (signal(of=window(12)), False),  # an hour lies between
        (signal(of=window(12), at=NOON - 5 * HOUR + 10 * MINUTE), True),  # but they came together
        (signal(of=window(12), at=NOON - 5 * HOUR + 11 * MINUTE), False),
        (signal(), True),  # names no window
        (signal(dataset="orders", of=window(10)), False),
        (signal("window_changed_outside", of=window(10)), False),  # another cause
        (signal("never_heard_of", of=window(10)), False),
    ],
)
def test_cause_dataset_and_window_decide(raised: RaisedSignal, into: bool) -> None:
    assert joins(raised, incident(of=window(10))) == ("INC-1" if into else None)


def test_a_cause_without_window_takes_signals_of_its_class_whenever_they_come() -> None:
    assert joins(signal("offset_beyond_end"), incident("broker_log_cut")) == "INC-1"


def test_aged_out_topics_are_one_incident_and_recreated_ones_are_not() -> None:
    assert joins(signal("offsets_aged_out", "orders"), incident("log_retention")) == "INC-1"
    assert joins(signal("topic_recreated", "orders"), incident("topic_identity")) is None


def test_changes_behind_our_back_are_one_incident_along_the_lineage() -> None:
    outside = incident("changed_outside", of=window(10))
    assert joins(signal("window_changed_outside", "revenue", window(0, 23)), outside) == "INC-1"
    assert joins(signal("window_changed_outside", "orders", window(10)), outside) is None


def test_a_closed_incident_takes_nothing_and_the_oldest_open_one_takes_all() -> None:
    closed = replace(incident(of=window(10)), state="resolved")
    assert joins(signal(of=window(10)), closed) is None
    second = replace(closed, incident_id="INC-2", state="recovered")
    third = replace(closed, incident_id="INC-3", state="detected")
    assert joins(signal(of=window(10)), closed, second, third) == "INC-2"


def test_a_symptom_joins_what_broke_the_same_data_and_opens_its_own_only_alone() -> None:
    gap = signal("reconciliation_gap", "bank_warehouse", window(10))
    refused = incident(of=window(10), incident_id="INC-2")
    retention = incident("log_retention", incident_id="INC-1")
    own = incident("sides_disagree", ("payments",), window(10), incident_id="INC-3")
    found = incident_for(gap, ("payments",), (retention, refused), RELATED)
    assert found == refused  # it names the window, the other one does not
    assert incident_for(gap, ("payments",), (retention,), RELATED) == retention
    assert incident_for(gap, ("payments",), (refused, own), RELATED) == own
    assert incident_for(gap, ("payments",), (incident("x", ("orders",), window(10)),), RELATED) is None
    assert incident_for(gap, ("payments",), (incident(of=window(14)),), RELATED) is None


def test_a_signal_widens_an_incident_and_never_lowers_its_severity() -> None:
    before = incident(of=window(10))
    raised = signal(of=window(11), at=NOON - 6 * HOUR, severity="critical")
    after = widened(before, raised, ("payments", "orders"))
    assert (after.datasets, after.window, after.severity) == (("payments", "orders"), window(10, 2), "P0")
    assert (after.began_at, after.last_signal_at) == (NOON - 6 * HOUR, NOON - 5 * HOUR)
    assert (after.signals, after.revision) == (2, 2)
    again = widened(after, signal(of=window(10), severity="info"), ("payments",))
    assert (again.severity, again.revision, again.signals) == ("P0", 2, 3)


def test_a_symptom_widens_nothing_of_another_cause() -> None:
    before = incident(of=window(10))
    gap = signal("reconciliation_gap", "bank_warehouse", window(0, 23))
    after = widened(before, gap, ("orders",))
    assert (after.window, after.datasets, after.revision, after.signals) == (window(10), ("payments",), 1, 2)


@pytest.mark.parametrize(
    ("state", "more", "again"),
    [
        ("detected", True, False),
        ("contained", True, True),
        ("contained", False, False),
        ("awaiting_approval", True, True),
        ("recovering", True, False),
        ("verifying", True, False),
        ("recovered", False, True),
        ("escalated", True, False),
    ],
)
def test_more_damage_begins_anew_where_nothing_runs(state: State, more: bool, again: bool) -> None:
    before = incident(of=window(10), state=state)
    after = widened(before, signal(of=window(11 if more else 10)), ("payments",))
    assert reopens(before, after) == again


@pytest.mark.parametrize(
    ("cause", "raised", "more"),
    [
        ("changed_outside", signal("window_changed_outside", of=window(12)), True),
        ("rules_broken", signal(of=window(12)), True),
        ("duplicates", signal("duplicate_events", of=window(12)), True),
        ("rules_broken", signal(of=window(10)), False),  # it is known
        ("rules_broken", signal(of=window(14)), False),
        ("rules_broken", signal(of=window(12), dataset="orders"), True),  # the hour is another's
        ("changed_outside", signal("window_changed_outside"), False),  # names none
        ("last_copy", signal("only_copy_expiring", of=window(12)), False),  # every hour is counted
        ("rules_broken", signal("reconciliation_gap", "bank_warehouse", window(12)), False),  # a mere symptom
    ],
)
def test_an_hour_between_those_that_are_known_is_more_where_only_those_are_repaired(
    cause: str, raised: RaisedSignal, more: bool
) -> None:
    before = incident(cause, ("payments", "orders"), window(10, 5), state="scoped")
    known = {("payments", window(10)), ("payments", window(14)), ("orders", window(10))}
    after = grown(before, raised, ("payments",), published=False, joined=known)
    assert after.window == before.window
    assert (after.revision, reopens(before, after)) == ((2, True) if more else (1, False))


def test_the_signal_that_opens_an_incident_is_no_growth() -> None:
    before = replace(incident(of=window(10)), signals=0)
    assert grown(before, signal(of=window(10)), ("payments",), published=False, joined=()).revision == 1


def test_severity_is_the_higher_of_rule_and_decision_tree() -> None:
    assert severity_of(signal(severity="critical"), published=False) == "P0"
    assert severity_of(signal(severity="page"), published=True) == "P1"  # quality: nobody decides on refused windows
    assert severity_of(signal("window_changed_outside", severity="page"), published=False) == "P1"
    assert severity_of(signal("window_changed_outside", severity="page"), published=True) == "P0"
    assert severity_of(signal("offset_beyond_end", severity="info"), published=False) == "P1"  # the pipeline is down
    assert severity_of(signal("never_heard_of", severity="warning"), published=False) == "P2"
    assert severity_of(signal("never_heard_of", severity="odd"), published=False) == "P2"


def test_every_kind_that_is_graded_has_a_cause_and_a_runbook() -> None:
    folder = Path(__file__).parents[3] / "docs" / "runbooks"
    assert set(GRADINGS) <= set(CAUSES)
    for kind in CAUSES:
        assert (folder / f"{kind}.md").is_file()
    assert rule_of("never_heard_of").cause == "never_heard_of"


def test_of_the_catalog_that_ships_names_lead_to_data() -> None:
    catalog = load_catalog({})
    related = relations(catalog)
    assert {"billing_payments", "payments"} <= set(datasets_of(catalog, "billing_warehouse"))
    assert {"payments", "billing_payments"} <= related["billing_warehouse"]
    for name in catalog.reconciliations:
        assert set(datasets_of(catalog, name)) <= {*catalog.landed, *catalog.marts}
    assert "revenue" in related["payments"]
    assert "payments" in related["revenue"]
    assert datasets_of(catalog, "payments") == ("payments",)
    assert datasets_of(catalog, "nobody_knows") == ("nobody_knows",)


def test_hulls() -> None:
    assert hull(None, None) is None
    assert hull(window(3), None) == hull(None, window(3)) == window(3)
    assert hull(window(3), window(6)) == window(3, 4)
