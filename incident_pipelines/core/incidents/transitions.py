"""Which state may follow which, and who may lead there."""

from collections.abc import Mapping
from typing import Literal

from incident_pipelines.core.errors import IllegalTransition
from incident_pipelines.core.incidents.incident import CLOSED, STATES, ActorKind, State

Party = Literal["system", "person"]

_SYSTEM: Mapping[State, tuple[State, ...]] = {
    "detected": ("contained", "escalated"),
    "contained": ("detected", "scoped", "escalated"),
    # A scope in which nothing is lost any more still has to be proven.
    "scoped": ("detected", "planned", "verifying", "escalated"),
    "planned": ("detected", "scoped", "awaiting_approval", "waiting_for_cause", "recovering", "escalated"),
    # Out of here leads a person's approval, or that what the plan was made for has changed.
    "awaiting_approval": ("detected", "escalated"),
    "waiting_for_cause": ("detected", "planned", "recovering", "escalated"),
    "recovering": ("detected", "verifying", "planned", "waiting_for_cause", "escalated"),
    "verifying": ("detected", "recovered", "planned", "escalated"),
    "recovered": ("detected", "resolved", "escalated"),
    "resolved": (),
    "reviewed": (),
    "escalated": (),
}
_PROVED_AGAIN: tuple[State, ...] = ("verifying",)
"""Where the system may lead what was escalated from there: no way around what a person has to decide."""
_PERSON: Mapping[State, tuple[State, ...]] = {
    **{state: ("resolved",) for state in STATES if state not in CLOSED},
    "awaiting_approval": ("planned", "resolved"),
    "escalated": ("detected", "resolved"),
    "resolved": ("reviewed",),
}
REOPENED_BY_GROWTH: frozenset[State] = frozenset(
    {"contained", "scoped", "planned", "awaiting_approval", "waiting_for_cause", "recovered"}
)
"""States that an incident leaves for `detected` when a signal widens it.

All of it is contained again, which is harmless where it was: containment of a recovered one has been undone, and a new
window was never contained. A recovery under way goes on with what it began; `verifying` may not end in `recovered`
before the new revision has been scoped as well.
"""


def party(kind: ActorKind) -> Party:
    """Return whether a person acts or the system does."""
    return "person" if kind == "person" else "system"


def successors(state: State, who: Party, escalated_from: State | None = None) -> tuple[State, ...]:
    """Return the states that a person or the system may lead an incident to.

    Args:
        escalated_from: state that an escalated incident was in before.
    """
    if state == "escalated" and who == "system" and escalated_from in _PROVED_AGAIN:
        return _PROVED_AGAIN
    return _PERSON.get(state, ()) if who == "person" else _SYSTEM[state]


def check_transition(
    incident_id: str,
    state: State,
    target: State,
    who: Party,
    *,
    stopped: bool = False,
    escalated_from: State | None = None,
) -> None:
    """Check that a change of state is legal.

    Args:
        stopped: a person has forbidden the system to act; new damage is still taken notice of (`detected`).
        escalated_from: as of `successors`.

    Raises:
        IllegalTransition: it is not; the message says what would be.
    """
    legal = successors(state, who, escalated_from)
    if target not in legal:
        allowed = ", ".join(legal) or "nothing"
        raise IllegalTransition(
            f"{incident_id} is {state}; {'a person' if who == 'person' else 'the system'} may lead it to {allowed}, "
            f"not to {target}"
        )
    if stopped and who == "system" and target != "detected":
        raise IllegalTransition(f"{incident_id} is stopped; `incident-pipelines incident resume {incident_id}` first")
