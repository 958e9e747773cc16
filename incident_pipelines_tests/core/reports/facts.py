"""Facts of an incident at a shop, for tests of reports."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from incident_pipelines.core.incidents.incident import Actor, Incident, RaisedSignal, State
from incident_pipelines.core.incidents.response_times import response_times
from incident_pipelines.core.incidents.scope import Affected, LostOffsets, Scope, Suspect
from incident_pipelines.core.incidents.timeline import Entry, EntryKind
from incident_pipelines.core.incidents.triage import Audience, triage
from incident_pipelines.core.recovery.loss import DatasetLoss, LossStatement, Restated
from incident_pipelines.core.recovery.plan import Choice, RecoveryPlan, Replay
from incident_pipelines.core.recovery.proof import Proof, Recounted
from incident_pipelines.core.reports.facts import MadePlan, ReportedMart, ReportFacts, Salvage, history_of
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow

NOON = datetime(2026, 3, 6, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUN = Actor("run", "r-1")
HOSTILE = "{{ 7*7 }} {% raw %} <script>alert(1)</script> [a](http://evil.example) | # @here ann.smith@example.org\n- b"
TOLD = (
    Audience("payments", "billing team", ("finance",), False),
    Audience("page_views", "web team", ("growth",), False),
    Audience("sales", "finance", ("executives",), True),
)
HOUR_11 = TimeWindow(NOON - HOUR, NOON)
TODAY = TimeWindow.day_of(NOON)


def loss_of(dataset: str, **changes: Any) -> DatasetLoss:
    values: dict[str, Any] = {"declared": 1_000, "recovered": 0, "unrecoverable": 0, "unknown_at_most": 0}
    values["basis"] = "totals" if changes.get("declared", 1) is not None else "offsets"
    return DatasetLoss(dataset=dataset, producer=f"{dataset} team", **{**values, **changes})


def statement(*datasets: DatasetLoss, restated: tuple[Restated, ...] = ()) -> LossStatement:
    return LossStatement(
        incident_id="INC-7",
        as_of=NOON + 20 * MINUTE,
        first_lost=NOON - HOUR,
        last_lost=NOON,
        datasets=datasets,
        restated=restated,
    )


RESTATED = (
    Restated(dataset="sales", column="revenue", segment="EUR", before="100000.00", after="100120.50", rows=3),
    Restated(dataset="sales", column="revenue", segment="USD", before="0", after="10.00", rows=1),
    Restated(dataset="sales", column="rows", segment="EUR", before="40", after="43", rows=3),
)


def facts(state: State = "detected", *, after: timedelta = MINUTE, **changes: Any) -> ReportFacts:
    """Return facts of an incident in a state that it came to by the shortest way, as of some time after detection."""
    way: list[State] = [
        "detected",
        "contained",
        "scoped",
        "planned",
        "recovering",
        "verifying",
        "recovered",
        "resolved",
    ]
    passed: list[State] = way[: way.index(state) + 1] if state in way else ["detected", state]
    title = changes.pop("title", "Events aged out")
    now = NOON + after
    incident = Incident(
        incident_id="INC-7",
        type="data_loss",
        cause="log_retention",
        severity="P0",
        state=state,
        title=title,
        source="sensor",
        datasets=("payments", "page_views"),
        window=HOUR_11,
        began_at=NOON - 5 * MINUTE,
        detected_at=NOON,
        opened_at=NOON,
        last_signal_at=NOON,
        contained_at=NOON + MINUTE if "contained" in passed else None,
        recovered_at=NOON + 20 * MINUTE if "recovered" in passed else None,
        resolved_at=now if "resolved" in passed else None,
        acknowledged_at=NOON + MINUTE if "contained" in passed else None,
        acknowledged_by="run r-1" if "contained" in passed else None,
    )
    signal = RaisedSignal(
        1, "offsets_aged_out", "critical", "payments", HOUR_11, {"summary": title}, NOON - 5 * MINUTE, NOON
    )
    entries = [entry(1, "opened", None, "detected", title)]
    entries += [
        entry(n, "state_changed", before, to, f"on to {to}") for n, (before, to) in enumerate(_pairs(passed), start=2)
    ]
    scoped, planned, proved = ("scoped" in passed), ("planned" in passed), ("recovered" in passed)
    if planned:
        entries.append(entry(len(entries) + 1, "plan_made", None, None, "plan made"))
    made = ReportFacts(
        incident=incident,
        signals=(signal,),
        entries=tuple(entries),
        tampered=(),
        told=TOLD,
        answers=triage(incident, [signal], TOLD, now),
        times=response_times(incident),
        steps=("`incident-pipelines incident ack INC-7`",),
        runbooks=("docs/runbooks/offsets_aged_out.md",),
        plan=MadePlan(plan(), "ab" * 32, NOON + MINUTE, None) if planned else None,
        effects=(),
        promises=(),
        scope=scope() if scoped else None,
        proof=Proof(
            incident_id="INC-7",
            revision=1,
            as_of=NOON + 20 * MINUTE,
            recounted=(Recounted("payments", HOUR_11, 1_000, 900, 1_000),),
            windows=2,
            rows=50,
        )
        if proved
        else None,
        loss=statement(
            loss_of("payments", recovered=100), loss_of("page_views", recovered=5, unrecoverable=15), restated=RESTATED
        )
        if proved
        else None,
        reported=(ReportedMart("sales", "finance", ("executives",), ("payments",)),),
        history=history_of(incident, [incident], now),
        salvage=Salvage(),
        mode="act",
        as_of=now,
    )
    return replace(made, **changes)


def scope() -> Scope:
    return Scope(
        incident_id="INC-7",
        revision=1,
        strategy="replay",
        as_of=NOON + MINUTE,
        suspects=(Suspect("payments", HOUR_11, 1_000, 900), Suspect("page_views", HOUR_11, None, 10)),
        downstream=(Affected("sales", TODAY, "made from payments"),),
        offsets=(LostOffsets("page_views", "page_views", 0, 100, 220),),
        first_lost=NOON - HOUR,
        last_lost=NOON,
        notes=("no control totals of page_views",),
    )


def plan() -> RecoveryPlan:
    taken = Choice("kafka", True, 100, True, False, True, NOON + DAY, "has all of it")
    return RecoveryPlan(
        incident_id="INC-7",
        revision=1,
        attempt=1,
        replays=(Replay("payments", HOUR_11, 100, (taken,)),),
        uncovered=(Replay("page_views", HOUR_11, None, ()),),
        publishes=(
            Affected("payments", HOUR_11, "replayed"),
            Affected("sales", TODAY, "made from payments"),
            Affected("sales", TimeWindow.day_of(NOON - 10 * DAY), "made from payments"),
        ),
        approval=("1 days of sales lie in 2026-02, which is closed and published",),
    )


def entry(number: int, kind: EntryKind, before: State | None, to: State | None, text: str) -> Entry:
    return Entry(number, NOON + number * MINUTE / 10, kind, "run", "run r-1", text, before, to)


def _pairs(states: list[State]) -> list[tuple[State, State]]:
    return list(pairwise(states))
