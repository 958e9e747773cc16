"""One call of containment at work: what it found written down, what is to be tried again when, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from incident_pipelines.adapters.stores.incidents_work import StoredAction
from incident_pipelines.core.incidents.containment import Choice
from incident_pipelines.core.incidents.containment_actions import ContainmentAction, described, key_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal, State

ATTEMPTS = 5
FIRST_PAUSE = timedelta(seconds=5)
"""Between the first failure and the next attempt; doubled after each."""


@dataclass(frozen=True)
class Containment:
    """How far an incident is contained, or its containment undone.

    Args:
        state: of the incident now.
        done: what this call has done or undone, in words.
        failed: what it has tried in vain.
        waiting: what is to be done yet: it is tried again later, or waits for a suspended watch.
        concluded: this call has led the incident on.
    """

    incident_id: str
    state: State
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    concluded: bool = False


@dataclass
class Course:
    """One call at work: what it found, and what came of it so far."""

    incident: Incident
    signals: Sequence[RaisedSignal]
    choice: Choice
    actions: Sequence[StoredAction]
    chances: int
    detected_at: datetime
    done: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])
    waiting: list[str] = field(default_factory=list[str])
    stands: list[str] = field(default_factory=list[str])
    given_up: list[str] = field(default_factory=list[str])
    for_people: list[str] = field(default_factory=list[str])

    def latest(self, action: ContainmentAction) -> StoredAction | None:
        """Return what is written down about an action; one that was undone is intended anew, under the next key."""
        base = key_of(self.incident.incident_id, action)
        known = [one for one in self.actions if one.key.partition("#")[0] == base]
        return known[-1] if known else None

    def new_key(self, action: ContainmentAction) -> str:
        """Return the key of the next intent of an action."""
        base = key_of(self.incident.incident_id, action)
        times = sum(one.key.partition("#")[0] == base for one in self.actions)
        return f"{base}#{times + 1}" if times else base

    def is_given_up(self, known: StoredAction) -> bool:
        """Whether an action that failed is not tried again."""
        return known.attempts >= ATTEMPTS * self.chances or self.is_out_of_reach(known)

    def is_out_of_reach(self, known: StoredAction) -> bool:
        """Whether an action can only be done where the system has no hands, as it is set up."""
        last = known.outcome_at is not None and known.outcome_at >= self.detected_at
        return last and bool(known.outcome and known.outcome.get("out_of_reach"))

    def give_up(self, known: StoredAction, told: str) -> None:
        """Note an action that is not tried again: people have to do it, or it has failed."""
        (self.for_people if self.is_out_of_reach(known) else self.given_up).append(told)

    def is_paused(self, known: StoredAction, now: datetime) -> bool:
        """Whether an action that failed has to wait before it is tried again."""
        if known.outcome_at is None:
            return False
        return now < known.outcome_at + FIRST_PAUSE * 2 ** ((known.attempts - 1) % ATTEMPTS)

    def result(self, state: State) -> Containment:
        """Return what came of it.

        Args:
            state: of the incident now.
        """
        return Containment(
            self.incident.incident_id,
            state,
            tuple(self.done),
            tuple(self.failed),
            tuple(self.waiting),
            state != self.incident.state,
        )


def told_of(known: StoredAction, action: ContainmentAction) -> str:
    """Return how an action went, or what it is to do where that is not known."""
    told = (known.outcome or {}).get("told")
    return told if isinstance(told, str) else described(action)
