"""Which kind of incident a signal is part of, what its cause is called, and who deals with it first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from incident_pipelines.core.incidents.incident import IncidentType, RaisedSignal, Source
from incident_pipelines.core.incidents.severity import (
    Impact,
    IncidentSeverity,
    graver,
    severity_of_impact,
    severity_of_signal,
)

REPORTED = "reported"
"""Class of the cause of what a person opened: nobody has looked for the cause yet."""

Reach = Literal["dataset", "lineage", "platform"]
"""How far one cause shows: in one dataset, in those that are made from each other, or anywhere at once."""


@dataclass(frozen=True)
class CauseRule:
    """What is known of a kind of signal before anybody has looked.

    Args:
        cause: its class; signals of one class may belong to one incident.
        title: of an incident that it opens.
        reach: where else the same cause may show.
        together: signals of one class that come no further apart are of one cause, whatever windows they name.
        symptom: it shows what something else broke: it joins an incident of any cause that touches the same data.
        contained_by: what containment does first.
        clears: the monitor says when a signal of this kind is over.
    """

    type: IncidentType
    cause: str
    title: str
    reach: Reach
    together: timedelta
    contained_by: str
    source: Source = "sensor"
    symptom: bool = False
    clears: bool = False


CAUSES: Mapping[str, CauseRule] = {
    "offsets_aged_out": CauseRule(
        "data_loss",
        "log_retention",
        "Events aged out of the topic before they were landed",
        "platform",
        timedelta(hours=1),
        "the topic's retention is put back and the lander started again, so that nothing more is lost",
    ),
    "topic_recreated": CauseRule(
        "data_loss",
        "topic_identity",
        "A topic was deleted and made again",
        "dataset",
        timedelta(hours=1),
        "landing of the topic has stopped by itself; the others go on",
    ),
    "offset_beyond_end": CauseRule(
        "pipeline_failure",
        "broker_log_cut",
        "The broker's log ends before what was landed already",
        "platform",
        timedelta(hours=1),
        "landing of the partition has stopped by itself; the others go on",
    ),
    "window_refused": CauseRule(
        "quality_degradation",
        "rules_broken",
        "Data breaks the rules of its contract",
        "dataset",
        timedelta(minutes=10),
        "the window was not published; readers see what was there before",
        source="check",
    ),
    "duplicate_events": CauseRule(
        "quality_degradation",
        "duplicates",
        "A producer sends again what was landed already",
        "platform",
        timedelta(hours=1),
        "nothing: published tables have each event once",
        source="check",
    ),
    "window_changed_outside": CauseRule(
        "corruption",
        "changed_outside",
        "Published data was changed by something other than publishing",
        "lineage",
        timedelta(minutes=10),
        "the window is quarantined and write access of whoever did it is revoked",
        clears=True,
    ),
    "reconciliation_gap": CauseRule(
        "corruption",
        "sides_disagree",
        "Two sides that have to agree do not",
        "lineage",
        timedelta(hours=2),
        "assets downstream are paused until the sides agree",
        source="check",
        symptom=True,
        clears=True,
    ),
    "only_copy_expiring": CauseRule(
        "data_loss",
        "last_copy",
        "The only copy of events is about to expire",
        "dataset",
        timedelta(hours=1),
        "nothing is lost yet: the source that still holds them is kept from deleting them",
        clears=True,
    ),
    "recovery_undone": CauseRule(
        "data_loss",
        "recovery_undone",
        "What was recovered is missing again",
        "dataset",
        timedelta(hours=2),
        "nothing: what is there stays, and what is missing is looked for again",
        clears=True,
    ),
    "recovery_source_unusable": CauseRule(
        "quality_degradation",
        "recovery_source",
        "A recovery source that a contract promises cannot replay",
        "dataset",
        timedelta(hours=1),
        "nothing: no data is wrong, but less of it could be brought back",
        clears=True,
    ),
    "retention_below_floor": CauseRule(
        "pipeline_failure",
        "log_retention",
        "A topic keeps its records for less time than it has to",
        "platform",
        timedelta(hours=1),
        "the topic's retention is put back at once",
        clears=True,
    ),
    "landing_lag_near_retention": CauseRule(
        "pipeline_failure",
        "log_retention",
        "Landing is so far behind that its topic will delete records first",
        "platform",
        timedelta(hours=1),
        "the topic's retention is lengthened and the lander started again, so that nothing is lost",
        clears=True,
    ),
    "landing_stalled": CauseRule(
        "pipeline_failure",
        "landing_stopped",
        "Events wait in topics and none is landed",
        "platform",
        timedelta(hours=1),
        "the lander is started again",
        clears=True,
    ),
    "landing_lag_rising": CauseRule(
        "freshness_violation",
        "landing_behind",
        "Landing is slower than events arrive",
        "platform",
        timedelta(hours=1),
        "nothing: landing goes on, and no event is lost while the topics keep them",
        symptom=True,
        clears=True,
    ),
    "run_failed": CauseRule(
        "pipeline_failure",
        "run_failed",
        "Runs of a job fail",
        "dataset",
        timedelta(hours=1),
        "nothing: what was published stays as it is, and its next run takes up what is not done",
        source="run_failure",
        clears=True,
    ),
}


def rule_of(kind: str) -> CauseRule:
    """Return the rule of a kind of signal; one that nobody has written a rule for is a cause of its own."""
    return CAUSES.get(kind) or CauseRule(
        "quality_degradation",
        kind,
        f"Signal {kind}",
        "dataset",
        timedelta(minutes=10),
        "nothing: no rule is known for this kind of signal",
    )


def impact_of(incident_type: IncidentType, published: bool) -> Impact:
    """Return what is known at once about an incident's impact.

    Args:
        published: what is affected are published numbers (marts), which decisions are made on.
    """
    return Impact(
        breach=incident_type == "breach",
        decisions_affected=published and incident_type in ("data_loss", "corruption"),
        pipeline_down=incident_type == "pipeline_failure",
        contract_broken=incident_type == "breaking_schema_change",
        quality_degraded=incident_type in ("data_loss", "corruption", "quality_degradation", "freshness_violation"),
    )


def severity_of(signal: RaisedSignal, published: bool) -> IncidentSeverity:
    """Return the higher of the rule's severity and the decision tree's (SPEC §7)."""
    tree = severity_of_impact(impact_of(rule_of(signal.kind).type, published))
    return graver(severity_of_signal(signal.severity), tree)


def runbook(kind: str) -> str:
    """Return the path of the runbook of a kind of signal, in the repository."""
    return f"docs/runbooks/{kind}.md" if kind in CAUSES else "docs/incidents.md"
