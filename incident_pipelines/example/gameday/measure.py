"""What the system did about a fault, and when: read from the control database, where only the system writes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.adapters.stores.incidents_timeline import read_timeline
from incident_pipelines.core.incidents.causes import rule_of
from incident_pipelines.core.incidents.incident import State
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.stages.incidents.by_hand import open_incidents

ENDED: frozenset[State] = frozenset({"recovered", "resolved", "reviewed"})
STUCK: frozenset[State] = frozenset({"escalated", "awaiting_approval"})
"""They move no further before a person has spoken."""

_SIGNALS = text(
    "SELECT s.signal_id, s.kind, s.raised_at, i.incident_id FROM monitoring.signals s "
    "LEFT JOIN incidents.signals i USING (signal_id) WHERE s.raised_at >= :since ORDER BY s.raised_at, s.signal_id"
)


@dataclass(frozen=True)
class Course:
    """How far the system is with a fault; what has not happened yet is None.

    Args:
        others: further incidents that were opened or joined since the fault.
    """

    incident_id: str | None = None
    state: State | None = None
    signal_at: datetime | None = None
    contained_at: datetime | None = None
    recovered_at: datetime | None = None
    others: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be waited for: a plan that waits for approval gets it from the game day."""
        return self.state in ENDED or self.state == "escalated"

    @property
    def incidents(self) -> tuple[str, ...]:
        """All incidents that were opened or joined since the fault, that of the fault first."""
        return self.others if self.incident_id is None else (self.incident_id, *self.others)


def course_of(control: Engine, causes: frozenset[str], since: datetime) -> Course:
    """Return how far the system is.

    Args:
        causes: classes of causes that the incident may have.
        since: when the fault was made.
    """
    with available("control database"), control.connect() as connection:
        signals = connection.execute(_SIGNALS, {"since": since}).all()
        ours = [one for one in signals if rule_of(one.kind).cause in causes]
        joined = [one.incident_id for one in ours if one.incident_id is not None]
        others = tuple(
            dict.fromkeys(one.incident_id for one in signals if one.incident_id and one.incident_id not in joined)
        )
        signal_at: datetime | None = ours[0].raised_at if ours else None
        if signal_at is None or not joined:
            return Course(signal_at=signal_at, others=others)
        return _course(connection, joined[0], signal_at, (*dict.fromkeys(joined[1:]), *others))


def loss_statement(control: Engine, incident_id: str, since: datetime | None = None) -> LossStatement | None:
    """Return the last loss statement of an incident.

    Args:
        since: one that was made before does not count.
    """
    with available("control database"), control.connect() as connection:
        found = latest_finding(connection, incident_id, "loss", LossStatement)
    return found if found is None or since is None or found.as_of >= since else None


def losses_of(control: Engine) -> dict[str, LossStatement]:
    """Return the loss statement of every incident that is open and has one."""
    names = [one.incident.incident_id for one in open_incidents(control)]
    return {name: loss for name in names if (loss := loss_statement(control, name)) is not None}


def last_words(control: Engine, incident_id: str) -> str:
    """Return the last entry of an incident's timeline."""
    with available("control database"), control.connect() as connection:
        return read_timeline(connection, incident_id)[-1].text


def _course(connection: Connection, incident_id: str, signal_at: datetime, others: tuple[str, ...]) -> Course:
    incident = read_incident(connection, incident_id)
    entries = [one for one in read_timeline(connection, incident_id) if one.at >= signal_at]
    contained = [one.at for one in entries if one.state_to == "contained"]
    recovered = [one.at for one in entries if one.state_to == "recovered"]
    return Course(
        incident_id,
        incident.state,
        signal_at,
        contained[0] if contained else None,
        recovered[-1] if recovered and incident.state in ENDED else None,
        tuple(one for one in others if one != incident_id),
    )
