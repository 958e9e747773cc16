"""Which state may follow which: the whole table, and what must hold of it."""

import itertools

import pytest

from incident_pipelines.core.errors import IllegalTransition
from incident_pipelines.core.incidents.incident import CLOSED, STATES, State
from incident_pipelines.core.incidents.transitions import (
    REOPENED_BY_GROWTH,
    Party,
    check_transition,
    party,
    successors,
)

# Row: from, columns in the order of STATES. s: the system may, p: a person may.
TABLE = """
detected           . s . . . . . . . p . s
contained          s . s . . . . . . p . s
scoped             s . . s . . . s . p . s
planned            s . s . s s s . . p . s
awaiting_approval  s . . p . . . . . p . s
waiting_for_cause  s . . s . . s . . p . s
recovering         s . . s . s . s . p . s
verifying          s . . s . . . . s p . s
recovered          s . . . . . . . . b . s
resolved           . . . . . . . . . . p .
reviewed           . . . . . . . . . . . .
escalated          p . . . . . . . . p . .
"""
MAY: dict[Party, str] = {"system": "sb", "person": "pb"}
EXPECTED = {
    (line.split()[0], target): mark
    for line in TABLE.strip().splitlines()
    for target, mark in zip(STATES, line.split()[1:], strict=True)
}


@pytest.mark.parametrize("who", ["system", "person"])
def test_only_what_the_table_allows_is_legal(who: Party) -> None:
    assert {state for state, _ in EXPECTED} == set(STATES)
    for state, target in itertools.product(STATES, STATES):
        if EXPECTED[(state, target)] in MAY[who]:
            check_transition("INC-1", state, target, who)
        else:
            with pytest.raises(IllegalTransition, match=f"INC-1 is {state}; .* not to {target}"):
                check_transition("INC-1", state, target, who)


def test_a_stopped_incident_is_a_persons_alone_but_new_damage_is_noticed() -> None:
    for state, target in itertools.product(STATES, STATES):
        if target in successors(state, "system") and target != "detected":
            with pytest.raises(IllegalTransition, match="incident resume INC-1"):
                check_transition("INC-1", state, target, "system", stopped=True)
        elif target in successors(state, "system"):
            check_transition("INC-1", state, target, "system", stopped=True)
        if target in successors(state, "person"):
            check_transition("INC-1", state, target, "person", stopped=True)


def test_the_system_alone_closes_an_incident_and_never_past_an_approval() -> None:
    assert reachable("detected", ("system",)) == set(STATES) - {"reviewed"}
    # What waits for approval is not recovered before a person has said so, nor does it get around that.
    assert reachable("awaiting_approval", ("system",), without="detected") == {"awaiting_approval", "escalated"}
    assert reachable("escalated", ("system",)) == {"escalated"}


def test_what_came_to_its_proof_before_it_was_escalated_may_be_proved_again_by_the_system() -> None:
    for state, target in itertools.product(STATES, STATES):
        if (state, target) == ("verifying", "verifying"):
            check_transition("INC-1", "escalated", target, "system", escalated_from=state)
            with pytest.raises(IllegalTransition, match="incident resume INC-1"):
                check_transition("INC-1", "escalated", target, "system", stopped=True, escalated_from=state)
        else:
            with pytest.raises(IllegalTransition, match="INC-1 is escalated"):
                check_transition("INC-1", "escalated", target, "system", escalated_from=state)
        assert successors("escalated", "person", state) == ("detected", "resolved")


def test_a_person_can_end_any_incident_and_nothing_ended_begins_again() -> None:
    for state in STATES:
        if state not in CLOSED:
            assert "resolved" in successors(state, "person")
            assert state == "escalated" or "escalated" in successors(state, "system")
    assert reachable("resolved", ("system", "person")) == {"resolved", "reviewed"}


def test_recovered_is_reached_by_proof_alone() -> None:
    before = {s for s in STATES for who in ("system", "person") if "recovered" in successors(s, who)}
    assert before == {"verifying"}


def test_what_growth_reopens_may_go_back() -> None:
    for state in REOPENED_BY_GROWTH:
        check_transition("INC-1", state, "detected", "system", stopped=True)


def test_runs_and_sensors_are_the_system() -> None:
    assert [party(kind) for kind in ("person", "sensor", "run")] == ["person", "system", "system"]


def reachable(start: State, who: tuple[Party, ...], without: State | None = None) -> set[State]:
    found: set[State] = set()
    waiting: list[State] = [start]
    while waiting:
        state = waiting.pop()
        if state in found or state == without:
            continue
        found.add(state)
        for one in who:
            waiting.extend(successors(state, one))
    return found
