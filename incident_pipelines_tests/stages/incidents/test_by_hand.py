"""What people and the system do to incidents: legal, told in the timeline, and by nobody who may not."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, read_timeline
from incident_pipelines.adapters.stores.incidents_work import (
    finish_action,
    intend_action,
    read_actions,
    retry_action,
    store_plan,
    undo_action,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import (
    IllegalTransition,
    IncidentConflict,
    IncidentPipelinesError,
    UnknownIncident,
)
from incident_pipelines.core.incidents.incident import STATES, Actor, State
from incident_pipelines.core.incidents.timeline import tamperings
from incident_pipelines.core.incidents.transitions import party, successors
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.incidents.pages import IncidentPage, incident_page
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ANA = Actor("person", "ana", "root")
BOB = Actor("person", "bob", "bob")
RUN = Actor("run", "r-1")


@dataclass
class Desk:
    """A control database with those who work on incidents: people as its owner, the system as publisher."""

    databases: Databases
    catalog: Catalog
    people: Engine
    system: Engine

    def open(self, **changes: Any) -> str:
        values: dict[str, Any] = {
            "type": "quality_degradation",
            "title": "odd prices",
            "datasets": ("orders",),
            **changes,
        }
        return by_hand.open_incident(self.people, self.catalog, by_hand.Report(**values), ANA, NOON).incident_id

    def lead(self, incident_id: str, *states: State) -> None:
        for target in states:
            with self.system.begin() as connection:
                seen = self.page(incident_id).incident.state
                change_state(connection, incident_id, seen, target, RUN, "on", NOON + MINUTE)

    def plan(self, incident_id: str, digest: str) -> bool:
        revision = self.page(incident_id).incident.revision
        with self.system.begin() as connection:
            return store_plan(connection, incident_id, digest, revision, {"steps": [1.5]}, RUN, NOON)

    def page(self, incident_id: str) -> IncidentPage:
        return incident_page(self.people, self.catalog, incident_id, NOON + MINUTE)

    def told(self, incident_id: str) -> list[tuple[str, str]]:
        return [(entry.kind, entry.actor) for entry in self.page(incident_id).entries]


@pytest.fixture(scope="module")
def desk(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    catalog, _ = orders_catalog(Path(tmp_path_factory.mktemp("catalog")))
    prepare_control(databases.url("control"))
    people = postgres_engine(databases.url("control"), "people")
    system = postgres_engine(databases.url("control", "publisher"), "system")
    yield Desk(databases, catalog, people, system)
    people.dispose()
    system.dispose()


def test_what_a_person_opens_is_as_grave_as_the_decision_tree_says_at_least(desk: Desk) -> None:
    page = desk.page(desk.open(type="corruption", severity="P3", since=NOON - MINUTE))
    assert (page.incident.severity, page.incident.source, page.incident.began_at) == ("P2", "person", NOON - MINUTE)
    assert page.entries[0].actor == "ana (account root)"
    assert desk.page(desk.open(severity="P0")).incident.severity == "P0"
    assert desk.page(desk.open(type="corruption", decisions_affected=True)).incident.severity == "P0"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"datasets": ("nope",)}, "dataset 'nope' is not in the catalog; one of orders"),
        ({"title": "  "}, "a title is needed"),
        ({"since": NOON + MINUTE}, "which is in the future"),
    ],
)
def test_what_cannot_be_is_not_opened(desk: Desk, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(IncidentPipelinesError, match=message):
        desk.open(**wrong)


def test_the_first_to_acknowledge_commands_and_the_clock_stops_once(desk: Desk) -> None:
    incident_id = desk.open()
    by_hand.acknowledge(desk.people, incident_id, ANA, NOON + MINUTE)
    after = by_hand.acknowledge(desk.people, incident_id, BOB, NOON + 2 * MINUTE)
    assert (after.acknowledged_by, after.acknowledged_at, after.commander) == (
        "ana (account root)",
        NOON + MINUTE,
        "ana",
    )
    assert desk.told(incident_id) == [("opened", "ana (account root)"), ("acknowledged", "ana (account root)")]


def test_the_systems_containment_is_a_response_but_commands_nothing(desk: Desk) -> None:
    incident_id = desk.open()
    desk.lead(incident_id, "contained")
    seen = desk.page(incident_id).incident
    assert (seen.acknowledged_by, seen.acknowledged_at, seen.commander) == ("run r-1", NOON + MINUTE, None)
    after = by_hand.acknowledge(desk.people, incident_id, BOB, NOON + 2 * MINUTE)
    assert (after.acknowledged_by, after.commander) == ("run r-1", "bob")


def test_a_stopped_incident_stands_still_until_it_is_resumed(desk: Desk) -> None:
    incident_id = desk.open()
    desk.lead(incident_id, "contained", "scoped")
    by_hand.stop(desk.people, incident_id, "let me look", ANA, NOON)
    by_hand.stop(desk.people, incident_id, "me too", BOB, NOON)
    with pytest.raises(IllegalTransition, match=f"{incident_id} is stopped"):
        desk.lead(incident_id, "planned")
    assert desk.page(incident_id).incident.stopped_because == "let me look"
    by_hand.resume(desk.people, incident_id, BOB, NOON)
    desk.lead(incident_id, "planned")
    with pytest.raises(IllegalTransition, match="neither stopped nor escalated"):
        by_hand.resume(desk.people, incident_id, BOB, NOON)
    assert [kind for kind, _ in desk.told(incident_id)].count("stopped") == 1


def test_an_escalated_one_begins_anew(desk: Desk) -> None:
    incident_id = desk.open()
    desk.lead(incident_id, "escalated")
    by_hand.stop(desk.people, incident_id, "wait", ANA, NOON)
    after = by_hand.resume(desk.people, incident_id, ANA, NOON)
    assert (after.state, after.stopped_at) == ("detected", None)


def test_a_person_closes_by_word_and_that_is_what_is_kept(desk: Desk) -> None:
    incident_id = desk.open()
    with pytest.raises(IllegalTransition, match="not to reviewed"):
        by_hand.review(desk.people, incident_id, "fine", ANA, NOON)
    with pytest.raises(IncidentPipelinesError, match="a reason is needed"):
        by_hand.resolve(desk.people, incident_id, " ", ANA, NOON)
    assert by_hand.resolve(desk.people, incident_id, "false alarm", ANA, NOON).resolution == "by_hand"
    by_hand.note(desk.people, incident_id, "written later", BOB, NOON)
    assert by_hand.review(desk.people, incident_id, "fine", ANA, NOON).state == "reviewed"
    for forbidden in (by_hand.acknowledge, by_hand.resume):
        with pytest.raises(IllegalTransition):
            forbidden(desk.people, incident_id, ANA, NOON)
    with pytest.raises(IllegalTransition):
        by_hand.stop(desk.people, incident_id, "x", ANA, NOON)
    proven = desk.open()
    desk.lead(proven, "contained", "scoped", "verifying", "recovered", "resolved")
    assert desk.page(proven).incident.resolution == "proven"


def test_a_plan_is_approved_as_it_was_seen(desk: Desk) -> None:
    incident_id = desk.open()
    with pytest.raises(IncidentConflict, match="has no plan yet; it is detected"):
        by_hand.approve(desk.people, incident_id, ANA, NOON)
    desk.lead(incident_id, "contained", "scoped")
    assert desk.plan(incident_id, "a" * 64)
    assert not desk.plan(incident_id, "a" * 64)
    with pytest.raises(IllegalTransition, match="waits for no approval"):
        by_hand.approve(desk.people, incident_id, ANA, NOON)
    desk.lead(incident_id, "planned", "awaiting_approval")
    assert desk.plan(incident_id, "b" * 64)
    with pytest.raises(IncidentConflict, match="is bbbbbbbbbbbb by now, not aaaa"):
        by_hand.approve(desk.people, incident_id, ANA, NOON, "aaaa")
    plan, after = by_hand.approve(desk.people, incident_id, ANA, NOON, "bbbb")
    assert after == desk.page(incident_id).incident
    assert plan == desk.page(incident_id).plan
    assert (plan.approved_by, plan.body) == ("ana (account root)", {"steps": [1.5]})
    assert desk.page(incident_id).incident.state == "planned"
    assert by_hand.approve(desk.people, incident_id, BOB, NOON)[0].approved_by == "ana (account root)"
    assert [kind for kind, _ in desk.told(incident_id)].count("plan_approved") == 1


def test_action_items_have_an_owner_and_are_done_once(desk: Desk) -> None:
    incident_id = desk.open()
    assert by_hand.add_item(desk.people, incident_id, "longer retention", "ana", date(2026, 4, 1), ANA, NOON) == 1
    assert by_hand.add_item(desk.people, incident_id, "a test", "bob", None, ANA, NOON) == 2
    with pytest.raises(IncidentPipelinesError, match="an owner is needed"):
        by_hand.add_item(desk.people, incident_id, "nobody's", "", None, ANA, NOON)
    with pytest.raises(IncidentPipelinesError, match="no open action item 3"):
        by_hand.finish_items(desk.people, incident_id, [1, 3], BOB, NOON)
    assert [one.done_at for one in desk.page(incident_id).items] == [None, None]
    by_hand.finish_items(desk.people, incident_id, [1], BOB, NOON)
    with pytest.raises(IncidentPipelinesError, match="no open action item 1"):
        by_hand.finish_items(desk.people, incident_id, [1], BOB, NOON)


def test_an_effect_is_intended_once_and_its_outcome_is_told(desk: Desk) -> None:
    incident_id = desk.open()
    key = f"{incident_id}:retention:orders"
    with desk.system.begin() as connection:
        assert intend_action(connection, incident_id, key, "retention", {"topic": "orders"}, RUN, "put back", NOON)
        assert not intend_action(connection, incident_id, key, "retention", {}, RUN, "put back", NOON)
    with desk.system.begin() as connection:
        assert [one.key for one in read_actions(connection, only_intended=True)] == [key]
        assert retry_action(connection, key) == 2
        assert finish_action(connection, key, "failed", {"error": "no broker"}, RUN, "failed", NOON)
        assert retry_action(connection, key) == 3
        assert finish_action(connection, key, "done", {"ms": 7}, RUN, "done", NOON, undo={"ms": 1})
        assert not finish_action(connection, key, "done", {}, RUN, "done", NOON)
        assert retry_action(connection, key) is None
        assert undo_action(connection, key, RUN, "undone", NOON)
        assert not undo_action(connection, key, RUN, "undone", NOON)
    (action,) = desk.page(incident_id).actions
    assert (action.state, action.attempts, action.outcome, action.undo) == ("undone", 3, {"ms": 7}, {"ms": 1})
    kinds = [kind for kind, _ in desk.told(incident_id)]
    assert kinds == ["opened", "action_intended", "action_failed", "action_done", "action_undone"]


def test_whatever_is_tried_only_legal_states_follow_and_the_timeline_tells_all_of_them(
    desk: Desk, rng: random.Random
) -> None:
    incident_id = desk.open()
    seen: list[State] = ["detected"]
    for _ in range(150):
        expected: State = rng.choice([seen[-1], rng.choice(STATES)])
        target: State = rng.choice(STATES)
        actor = rng.choice([ANA, RUN, RUN, RUN])
        legal = expected == seen[-1] and target in successors(expected, party(actor.kind))
        try:
            with desk.people.begin() as connection:
                change_state(connection, incident_id, expected, target, actor, "tried", NOON)
        except (IllegalTransition, IncidentConflict):
            assert not legal
        else:
            assert legal
            seen.append(target)
        if seen[-1] in ("resolved", "reviewed"):
            incident_id = desk.open()
            seen = ["detected"]
    page = desk.page(incident_id)
    assert [entry.state_to for entry in page.entries] == seen
    assert page.incident.state == seen[-1]
    assert page.tampered == ()


def test_of_two_who_change_the_state_at_once_one_is_told(desk: Desk) -> None:
    incident_id = desk.open()
    with desk.system.begin() as first:
        change_state(first, incident_id, "detected", "contained", RUN, "first", NOON)
        with desk.system.connect() as second:
            second.execute(text("SET lock_timeout = '50ms'"))
            with pytest.raises(Exception, match="lock timeout"):
                change_state(second, incident_id, "detected", "contained", RUN, "second", NOON)
    with desk.system.begin() as second, pytest.raises(IncidentConflict, match="is contained by now, not detected"):
        change_state(second, incident_id, "detected", "contained", RUN, "second", NOON)


def test_an_unknown_incident_is_said_to_be_unknown(desk: Desk) -> None:
    with pytest.raises(UnknownIncident, match="no incident 'INC-999999'"):
        desk.page("INC-999999")
    with pytest.raises(UnknownIncident):
        by_hand.note(desk.people, "INC-999999", "x", ANA, NOON)


@pytest.mark.parametrize("statement", ["UPDATE {} SET text = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_timeline_is_append_only_for_its_owner_as_well(desk: Desk, statement: str) -> None:
    desk.open()
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        query(desk.databases.url("control"), statement.format("incidents.timeline"))


def test_a_state_that_no_entry_tells_is_refused(desk: Desk) -> None:
    incident_id = desk.open()
    for url in (desk.databases.url("control"), desk.databases.url("control", "publisher")):
        with pytest.raises(psycopg.errors.RestrictViolation, match="is resolved but its timeline says detected"):
            query(url, "UPDATE incidents.incidents SET state = 'resolved' WHERE incident_id = %s", incident_id)


def test_an_entry_that_follows_nothing_is_refused(desk: Desk) -> None:
    incident_id = desk.open()
    for entry, previous in ((2, "f" * 64), (7, desk.page(incident_id).incident.head_hash)):
        with pytest.raises(psycopg.errors.RestrictViolation, match="does not follow its last one, 1"):
            query(
                desk.databases.url("control", "publisher"),
                "INSERT INTO incidents.timeline (incident_id, entry, at, kind, actor_kind, actor, text, previous_hash,"
                " hash) VALUES (%s, %s, now(), 'noted', 'run', 'x', 'x', %s, %s)",
                incident_id,
                entry,
                previous,
                "0" * 64,
            )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE incidents.timeline SET text = 'x'",
        "DELETE FROM incidents.timeline",
        "TRUNCATE incidents.timeline",
        "ALTER TABLE incidents.timeline DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only ON incidents.timeline",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION incidents.refuse_change() RETURNS trigger LANGUAGE sql AS ''",
        "UPDATE incidents.incidents SET entries = 0",
        "UPDATE incidents.incidents SET head_hash = ''",
        "UPDATE incidents.incidents SET detected_at = now()",
        "DELETE FROM incidents.incidents",
        "UPDATE incidents.signals SET incident_id = 'INC-1'",
        "DELETE FROM incidents.signals",
        "UPDATE incidents.plans SET approved_at = now(), approved_by = 'ana'",
        "INSERT INTO incidents.plans (incident_id, digest, revision, body, made_at, made_by, approved_at)"
        " VALUES ('INC-1', 'x', 1, '{}', now(), 'x', now())",
        "UPDATE incidents.plans SET body = '{}'",
        "DELETE FROM incidents.actions",
        "UPDATE incidents.actions SET key = 'x'",
        "DELETE FROM incidents.action_items",
        "CREATE TABLE incidents.more ()",
        "UPDATE monitoring.signals SET raised_at = now()",
    ],
)
def test_forbidden_statements_of_the_system(desk: Desk, statement: str) -> None:
    desk.open()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(desk.databases.url("control", "publisher"), statement)


@pytest.mark.parametrize("role", ["lander", "monitor"])
def test_others_do_not_even_see_incidents(desk: Desk, role: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(desk.databases.url("control", role), "SELECT * FROM incidents.incidents")


TAMPERINGS: list[tuple[str, list[int]]] = [
    ("UPDATE incidents.timeline SET text = 'nothing happened' WHERE incident_id = %(id)s AND entry = 2", [2]),
    ("UPDATE incidents.timeline SET at = at + interval '1 microsecond' WHERE incident_id = %(id)s AND entry = 3", [3]),
    ("UPDATE incidents.timeline SET detail = '{\"a\": 1}' WHERE incident_id = %(id)s AND entry = 1", [1]),
    ("DELETE FROM incidents.timeline WHERE incident_id = %(id)s AND entry = 2", [2]),
    ("DELETE FROM incidents.timeline WHERE incident_id = %(id)s AND entry > 2", [3]),
    ("DELETE FROM incidents.timeline WHERE incident_id = %(id)s", [1]),
    ("UPDATE incidents.incidents SET head_hash = repeat('a', 64) WHERE incident_id = %(id)s", [4]),
]


@pytest.mark.parametrize(("statement", "found"), TAMPERINGS)
def test_what_a_superuser_changes_is_told_by_the_chain(desk: Desk, statement: str, found: list[int]) -> None:
    incident_id = desk.open()
    for number in range(3):
        by_hand.note(desk.people, incident_id, f"note {number}", BOB, NOON)
    assert desk.page(incident_id).tampered == ()
    with psycopg.connect(driver_url(desk.databases.url("control"))) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement, {"id": incident_id})  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert [one.entry for one in desk.page(incident_id).tampered] == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(words="", actor="", detail={"a": [-0.0, 1e16, 1.0, 1e-7]})
@given(words=st.text(), actor=st.text(), detail=st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_is_written_comes_back_and_hashes_alike(
    desk: Desk, words: str, actor: str, detail: dict[str, Any]
) -> None:
    with desk.people.connect() as connection:
        incident_id = connection.execute(
            text(
                "INSERT INTO incidents.incidents (type, cause, severity, title, source, datasets, began_at,"
                " detected_at, opened_at) VALUES ('breach', 'x', 'P0', 't', 'person', '{}', now(), now(), now())"
                " RETURNING incident_id"
            )
        ).scalar_one()
        entry = NewEntry("noted", Actor("person", actor), words, NOON + timedelta(microseconds=1), detail=detail)
        append_entry(connection, incident_id, entry)
        written = append_entry(connection, incident_id, entry)
        entries = read_timeline(connection, incident_id)
        assert entries[-1] == written
        assert tamperings(incident_id, entries, 2, written.hash) == []
        connection.rollback()


_Call = Callable[[Engine, str], Any]
CALLS: list[_Call] = [
    lambda engine, incident_id: by_hand.acknowledge(engine, incident_id, ANA, NOON),
    lambda engine, incident_id: by_hand.note(engine, incident_id, "seen", ANA, NOON),
    lambda engine, incident_id: by_hand.stop(engine, incident_id, "wait", ANA, NOON),
    lambda engine, incident_id: by_hand.resolve(engine, incident_id, "done", ANA, NOON),
    lambda engine, incident_id: by_hand.add_item(engine, incident_id, "x", "ana", None, ANA, NOON),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_change_and_its_entry_are_one(desk: Desk, call: _Call) -> None:
    """Whatever a person does leaves exactly one entry; where the entry cannot be written, nothing is done."""
    incident_id = desk.open()
    before = desk.page(incident_id)
    blocker = psycopg.connect(driver_url(desk.databases.url("control")), autocommit=True)
    blocker.execute("ALTER TABLE incidents.timeline ADD CONSTRAINT none CHECK (entry = 1) NOT VALID")
    try:
        with pytest.raises(Exception, match='"none"'):
            call(desk.people, incident_id)
    finally:
        blocker.execute("ALTER TABLE incidents.timeline DROP CONSTRAINT none")
        blocker.close()
    assert desk.page(incident_id) == before
    call(desk.people, incident_id)
    assert len(desk.page(incident_id).entries) == 2
