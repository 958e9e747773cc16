"""What an incident is, in the terms that rules, store and pages share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from incident_pipelines.core.incidents.severity import IncidentSeverity
from incident_pipelines.core.windows import TimeWindow

IncidentType = Literal[
    "data_loss",
    "corruption",
    "breach",
    "pipeline_failure",
    "breaking_schema_change",
    "quality_degradation",
    "freshness_violation",
]
INCIDENT_TYPES: tuple[IncidentType, ...] = get_args(IncidentType)

State = Literal[
    "detected",
    "contained",
    "scoped",
    "planned",
    "awaiting_approval",
    "waiting_for_cause",
    "recovering",
    "verifying",
    "recovered",
    "resolved",
    "reviewed",
    "escalated",
]
STATES: tuple[State, ...] = get_args(State)
CLOSED: frozenset[State] = frozenset({"resolved", "reviewed"})

Source = Literal["check", "sensor", "run_failure", "person"]
Resolution = Literal["proven", "by_hand"]
ActorKind = Literal["person", "sensor", "run"]


@dataclass(frozen=True)
class Actor:
    """Who does something to an incident.

    Args:
        name: of the person as given, of the sensor, or the id of the run.
        account: the operating system's account that a person's command ran under.
    """

    kind: ActorKind
    name: str
    account: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case "person":
                return self.name if self.account in (None, self.name) else f"{self.name} (account {self.account})"
            case "sensor":
                return self.name
            case "run":
                return f"run {self.name}"


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One incident as it stands.

    Args:
        cause: class of its cause; signals of the same class may join it.
        window: hull of what its signals name; None where none names a window.
        began_at: when what broke it became true, as far as its earliest signal, or the person who opened it, knows.
        detected_at: when its first signal was raised, or a person opened it.
        signals: how many have joined.
        revision: rises whenever what is affected has grown: a scope of an older one is out of date.
        resolution: whether it was closed on proof, or by a person's word.
        stopped_at: since when a person has forbidden the system to act on it.
        entries, head_hash: length of its timeline and hash of the last entry.
    """

    incident_id: str
    type: IncidentType
    cause: str
    severity: IncidentSeverity
    state: State
    title: str
    source: Source
    datasets: tuple[str, ...]
    window: TimeWindow | None
    began_at: datetime
    detected_at: datetime
    opened_at: datetime
    last_signal_at: datetime | None = None
    signals: int = 0
    revision: int = 1
    commander: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    contained_at: datetime | None = None
    recovered_at: datetime | None = None
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    reviewed_at: datetime | None = None
    stopped_at: datetime | None = None
    stopped_by: str | None = None
    stopped_because: str | None = None
    entries: int = 0
    head_hash: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still may take signals and be worked on."""
        return self.state not in CLOSED


@dataclass(frozen=True)
class RaisedSignal:
    """A signal as incidents see it.

    Args:
        occurred_at: when what it tells became true by its rule.
        raised_at: when the system knew.
        cleared_at: when it was found to be over; None while it lasts, and for kinds that never clear.
    """

    signal_id: int
    kind: str
    severity: str
    dataset: str
    window: TimeWindow | None
    detail: Mapping[str, Any]
    occurred_at: datetime
    raised_at: datetime
    cleared_at: datetime | None = None

    @property
    def summary(self) -> str:
        """The paragraph that the signal itself tells."""
        text = self.detail.get("summary")
        return text if isinstance(text, str) and text else f"{self.kind} in {self.dataset}"
