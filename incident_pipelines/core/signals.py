"""Fact → signal: what was written down, and how grave it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from incident_pipelines.core.duplicates import CRITICAL_SHARE

Severity = Literal["info", "warning", "page", "critical"]


@dataclass(frozen=True)
class Fact:
    """What a stage wrote down in the transaction in which it happened.

    Args:
        detail: as its stage wrote it; empty where it was no object.
        recorded_at: aware; when that transaction began.
    """

    fact_id: int
    kind: str
    dataset: str
    window_start: datetime | None
    window_end: datetime | None
    detail: Mapping[str, Any]
    recorded_at: datetime


@dataclass(frozen=True)
class Grading:
    """How grave a kind of fact is, and where that is said."""

    severity: Severity
    source: str


GRADINGS: Mapping[str, Grading] = {
    "offsets_aged_out": Grading("critical", "SPEC §6, consumer lag against retention: offset out of range"),
    "topic_recreated": Grading(
        "critical", "SPEC §6, consumer lag against retention: no stored offset is in range any more"
    ),
    "offset_beyond_end": Grading("critical", "SPEC §6, consumer lag against retention: offset out of range"),
    "window_refused": Grading(
        "page",
        "SPEC §6, required fields, uniqueness, references: each pages before the share that refuses a window (§2: 1 %)",
    ),
    "duplicate_events": Grading("page", "SPEC §6, uniqueness violations: more than 0.1 %"),
    "window_changed_outside": Grading("page", "SPEC §4: readers see something else than was published"),
    "only_copy_expiring": Grading("page", "SPEC §7, recoverability map: after that the events are gone for good"),
    "recovery_undone": Grading("page", "SPEC §7: after a recovery its scope is watched more closely for 24 hours"),
    "recovery_source_unusable": Grading("warning", "SPEC §7, recoverability map: nothing is lost yet"),
    "retention_below_floor": Grading("page", "SPEC §6, retention against its floor: below"),
    "landing_stalled": Grading("page", "SPEC §6, the lag verdict: not moving with lag is an error"),
    "landing_lag_rising": Grading("warning", "SPEC §6, consumer lag against retention: rising while offsets move"),
    "landing_lag_near_retention": Grading("page", "SPEC §6, consumer lag against retention: lag > 50 % of retention"),
    "run_failed": Grading("page", "SPEC §7: a run failure is a report of an incident; a pipeline that is down is P1"),
}
MANY_DUPLICATES = Grading("critical", "SPEC §6, uniqueness violations: more than 1 %")
UNKNOWN_KIND = Grading("warning", "a kind that nobody graded must still be seen")


def grade(kind: str, detail: Mapping[str, Any] = MappingProxyType({})) -> Grading:
    """Return how grave a fact is; a kind that is not known is a warning and never dropped.

    Args:
        detail: of the fact; some kinds are the graver the more it says.
    """
    share = detail.get("share") if kind == "duplicate_events" else None
    if isinstance(share, int | float) and share > CRITICAL_SHARE:
        return MANY_DUPLICATES
    return GRADINGS.get(kind, UNKNOWN_KIND)
