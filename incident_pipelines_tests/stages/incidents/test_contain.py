"""Containment: intent before effect, undone in reverse, taken up again wherever it died, no more than is allowed."""

import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from incident_pipelines.adapters import failpoints
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.adapters.processes import SUPERVISOR_VARIABLE
from incident_pipelines.adapters.stores.holds import read_holds
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.incidents.contain import contain_incident, release_containment
from incident_pipelines.stages.incidents.containment_course import ATTEMPTS, Containment
from incident_pipelines.stages.incidents.containment_queue import incidents_to_contain, incidents_to_release
from incident_pipelines.stages.incidents.pages import IncidentPage, incident_page
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, hours, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

SENSOR = Actor("sensor", "new_signals_sensor")
RUN = Actor("run", "r-1")
ANA = Actor("person", "ana")
FAILPOINTS = ["contain.intended", "contain.done", "contain.finished", "contain.before_state"]


@dataclass
class Ward:
    """A shop with its control database, and somebody who may change its tables."""

    databases: Databases
    shop: Shop
    control: Engine
    catalog: Catalog
    role: str

    def change_outside(self, *, role: str | None = None, at: datetime = NOW) -> str:
        """Raise the signal of a changed window, and return the incident that it opens or joins."""
        return self.raise_signal(
            "window_changed_outside", hours("10T10")[0], at, statements=[{"user_name": role or self.role}]
        )

    def raise_signal(self, kind: str, window: Any = None, at: datetime = NOW, **detail: Any) -> str:
        query(
            self.databases.url("control"),
            "INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, occurred_at,"
            " raised_at) VALUES (%s, 'page', 'orders', %s, %s, %s, %s, %s)",
            kind,
            window and window.start,
            window and window.end,
            json.dumps(detail),
            at,
            at,
        )
        taken = take_signals(self.control, self.catalog, at)
        return (*taken.opened, *taken.joined)[0]

    def contain(self, incident_id: str, now: datetime = NOW, environment: dict[str, str] | None = None) -> Containment:
        variables = {
            "WAREHOUSE_URL": self.shop.variables["WAREHOUSE_URL"],
            SUPERVISOR_VARIABLE: "/nowhere.sock",
            **(environment or {}),
        }
        return contain_incident(self.control, self.shop.warehouse, self.catalog, variables, incident_id, SENSOR, now)

    def release(self, incident_id: str) -> Containment:
        return release_containment(self.control, self.shop.warehouse, self.catalog, {}, incident_id, RUN, NOW)

    def page(self, incident_id: str) -> IncidentPage:
        return incident_page(self.control, self.catalog, incident_id, NOW)

    def held(self) -> set[tuple[str, str]]:
        with self.shop.warehouse.connect() as connection:
            return {(hold.kind, hold.dataset) for hold in read_holds(connection)}

    def may_delete(self) -> bool:
        (row,) = self.shop.rows("SELECT has_table_privilege(:role, 'raw.orders', 'DELETE')", role=self.role)
        return row[0]

    def states(self, incident_id: str) -> dict[str, str]:
        return {one.target["what"]: one.state for one in self.page(incident_id).actions}


ALL_HELD = {("quarantine", "orders"), ("pause", "order_states"), ("pause", "turnover")}


@pytest.fixture(scope="module")
def opened(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    shop = open_shop(databases, Path(tmp_path_factory.mktemp("shop")))
    control = postgres_engine(databases.url("control", "publisher"), "test")
    role = f"ana_{secrets.token_hex(3)}"
    shop.execute(f"CREATE ROLE {role}")
    yield Ward(databases, shop, control, replace(shop.catalog, mode="act"), role)
    shop.execute(f"DROP OWNED BY {role}")
    shop.execute(f"DROP ROLE {role}")
    control.dispose()
    close_shop(shop)


@pytest.fixture
def ward(opened: Ward) -> Iterator[Ward]:
    opened.shop.execute(f"GRANT DELETE ON raw.orders TO {opened.role}")
    yield opened
    with opened.control.connect() as connection:
        left = connection.execute(
            text("SELECT incident_id FROM incidents.incidents WHERE state NOT IN ('resolved', 'reviewed')")
        )
        for incident_id in left.scalars():
            by_hand.resolve(opened.control, incident_id, "the test is over", ANA, NOW)
    for incident_id in incidents_to_release(opened.control, opened.shop.warehouse):
        opened.release(incident_id)
    opened.shop.execute("DELETE FROM publication.holds")
    opened.shop.execute("DELETE FROM protection.revocations")


def test_changed_data_is_contained_and_everything_is_undone_in_reverse(ward: Ward) -> None:
    incident_id = ward.change_outside()
    assert incidents_to_contain(ward.control) == [incident_id]
    contained = ward.contain(incident_id)
    assert (contained.state, contained.concluded, len(contained.done), contained.failed) == ("contained", True, 4, ())
    assert ward.held() == ALL_HELD
    assert not ward.may_delete()
    page = ward.page(incident_id)
    assert set(ward.states(incident_id).values()) == {"done"}
    assert page.incident.contained_at == NOW
    told = page.entries[-1].text
    assert f"revoked: DELETE on raw.orders from {ward.role}" in told
    kinds = [entry.kind for entry in page.entries]
    assert kinds[2:] == ["action_intended", "action_done"] * 4 + ["state_changed"]
    assert page.tampered == ()
    assert incidents_to_contain(ward.control) == []
    assert ward.contain(incident_id).done == ()
    released = ward.release(incident_id)
    assert (len(released.done), released.failed) == (4, ())
    assert ward.held() == set()
    assert ward.may_delete()
    undone = [entry.text for entry in ward.page(incident_id).entries if entry.kind == "action_undone"]
    assert "turnover" in undone[0]
    assert "given back: DELETE on raw.orders" in undone[-1]
    assert ward.release(incident_id).done == ()


def test_in_propose_only_what_is_ours_to_undo_is_done_and_the_rest_is_told(ward: Ward) -> None:
    ward = replace(ward, catalog=replace(ward.catalog, mode="propose"))
    incident_id = ward.change_outside()
    assert ward.contain(incident_id).state == "contained"
    assert ward.held() == ALL_HELD
    assert ward.may_delete()
    told = ward.page(incident_id).entries[-1].text
    assert f"not allowed by the mode: revoke writes on raw.orders from {ward.role}" in told


def test_nothing_is_done_to_a_stopped_incident_or_in_observe(ward: Ward) -> None:
    incident_id = ward.change_outside()
    watching = replace(ward, catalog=replace(ward.catalog, mode="observe"))
    assert watching.contain(incident_id) == Containment(incident_id, "detected")
    by_hand.stop(ward.control, incident_id, "looking at it", ANA, NOW)
    assert ward.contain(incident_id) == Containment(incident_id, "detected")
    assert incidents_to_contain(ward.control) == []
    assert ward.held() == set()
    assert ward.page(incident_id).actions == ()
    by_hand.resume(ward.control, incident_id, ANA, NOW)
    assert ward.contain(incident_id).state == "contained"


def test_a_superuser_keeps_its_rights_and_the_outcome_says_so(ward: Ward) -> None:
    incident_id = ward.change_outside(role="postgres")
    assert ward.contain(incident_id).state == "contained"
    told = ward.page(incident_id).entries[-1].text
    assert "nothing was revoked on raw.orders: postgres is a superuser" in told


def test_what_fails_is_tried_again_later_and_others_go_on(ward: Ward) -> None:
    incident_id = ward.raise_signal("landing_stalled")
    now = NOW
    for attempt in range(1, ATTEMPTS + 1):
        tried = ward.contain(incident_id, now)
        assert len(tried.failed) == 1
        assert tried.state == ("escalated" if attempt == ATTEMPTS else "detected")
        assert ward.contain(incident_id, now).failed == ()
        now += timedelta(seconds=5 * 2 ** (attempt - 1))
    page = ward.page(incident_id)
    assert page.actions[0].attempts == ATTEMPTS
    assert "could not start the landers" in page.entries[-1].text
    # A person who lets it begin again gives it as many attempts.
    by_hand.resume(ward.control, incident_id, ANA, now)
    assert len(ward.contain(incident_id, now).failed) == 1


def test_what_cannot_be_reached_from_here_is_not_tried_in_vain(ward: Ward) -> None:
    incident_id = ward.raise_signal("landing_stalled")
    alone: dict[str, str] = {}
    result = contain_incident(ward.control, ward.shop.warehouse, ward.catalog, alone, incident_id, SENSOR, NOW)
    assert result.state == "escalated"
    assert f"{SUPERVISOR_VARIABLE} is not set" in ward.page(incident_id).entries[-1].text


def test_failures_beside_successes_are_told_and_do_not_escalate(ward: Ward) -> None:
    incident_id = ward.raise_signal("offsets_aged_out", hours("10T10")[0], topic="orders")
    states: list[str] = []
    for attempt in range(ATTEMPTS):
        states.append(ward.contain(incident_id, NOW + timedelta(minutes=10 * attempt)).state)
    assert states == ["detected"] * (ATTEMPTS - 1) + ["contained"]
    told = ward.page(incident_id).entries[-1].text
    assert "order_states [2026-03-07 00:00, 2026-03-11 00:00) is paused" in told
    assert "could not put the retention of topic orders back to its floor" in told
    assert ward.held() == {("pause", "order_states"), ("pause", "turnover")}


def test_retention_is_put_back_and_again_when_it_is_lowered_again(
    ward: Ward, stack: Stack, new_topic: Callable[..., str]
) -> None:
    topic = new_topic("orders", retention_ms=3_600_000)
    orders = ward.catalog.landed["orders"]
    assert isinstance(orders, EventContract)
    kept = replace(orders, topic=topic, retention_days=7)
    ward = replace(ward, catalog=replace(ward.catalog, landed={**ward.catalog.landed, "orders": kept}))
    broker = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers}
    week = 7 * 86_400_000

    def retention() -> int:
        with closing(Topics(stack.bootstrap_servers)) as topics:
            return topics.settings([topic])[topic].retention_ms

    incident_id = ward.raise_signal("retention_below_floor", topic=topic)
    first = ward.contain(incident_id, NOW, broker)
    assert first.done == (f"retention of topic {topic} put back from 3600000 ms to {week} ms",)
    assert retention() == week
    with closing(Topics(stack.bootstrap_servers)) as topics:
        topics.set_retention(topic, 3_600_000)
    later = NOW + timedelta(minutes=10)
    ward.contain(incident_id, later, broker)
    assert retention() == 3_600_000  # nobody has said so yet
    lead(ward, incident_id, "contained", "scoped")
    assert ward.raise_signal("retention_below_floor", at=later, topic=topic) == incident_id
    assert incidents_to_contain(ward.control) == [incident_id]
    again = ward.contain(incident_id, later, broker)
    assert (again.state, again.concluded, len(again.done)) == ("scoped", False, 1)
    assert retention() == week
    assert ward.contain(incident_id, later, broker).done == ()


def test_a_suspended_watch_keeps_its_action_back_and_the_incident_detected(ward: Ward) -> None:
    incident_id = ward.raise_signal("offsets_aged_out", hours("10T10")[0], topic="orders")
    query(
        ward.databases.url("control"),
        "INSERT INTO monitoring.suspensions (watch, began_at, until, by, because)"
        " SELECT w, %s, %s, 'ana', 'a drill' FROM unnest(ARRAY['retention', 'landing']) w",
        NOW,
        NOW + timedelta(minutes=1),
    )
    waiting = ward.contain(incident_id)
    assert (waiting.state, len(waiting.done), len(waiting.waiting)) == ("detected", 2, 2)
    assert ward.contain(incident_id).done == ()
    assert len(ward.contain(incident_id, NOW + timedelta(minutes=1)).failed) == 2
    query(ward.databases.url("control"), "DELETE FROM monitoring.suspensions")


def test_what_was_undone_is_done_anew_when_the_incident_begins_again(ward: Ward) -> None:
    incident_id = ward.change_outside()
    ward.contain(incident_id)
    lead(ward, incident_id, "scoped", "verifying", "recovered")
    ward.release(incident_id)
    assert ward.change_outside(at=NOW + timedelta(seconds=1)) == incident_id
    assert ward.contain(incident_id).state == "contained"
    assert ward.held() == ALL_HELD
    assert not ward.may_delete()
    assert sorted(one.state for one in ward.page(incident_id).actions) == ["done"] * 4 + ["undone"] * 4


def test_an_incident_that_a_person_closes_is_released_by_the_next_tick(ward: Ward) -> None:
    incident_id = ward.change_outside()
    ward.contain(incident_id)
    assert incidents_to_release(ward.control, ward.shop.warehouse) == []
    by_hand.resolve(ward.control, incident_id, "false alarm", ANA, NOW)
    assert incidents_to_release(ward.control, ward.shop.warehouse) == [incident_id]
    ward.release(incident_id)
    assert ward.held() == set()
    assert incidents_to_release(ward.control, ward.shop.warehouse) == []


def dies(ward: Ward, what: Any, incident_id: str, failpoint: str) -> None:
    """Do something in a copy of this process that is killed at a failpoint."""
    child = os.fork()
    if not child:
        name, _, count = failpoint.partition("=")
        failpoints._remaining[name] = int(count or 1)  # pyright: ignore[reportPrivateUsage]
        control = postgres_engine(ward.databases.url("control", "publisher"), "dying")
        warehouse = postgres_engine(ward.databases.url("warehouse", "publisher"), "dying")
        try:
            what(control, warehouse, ward.catalog, ward.shop.variables, incident_id, RUN, NOW)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("failpoint", [*(f"{name}=1" for name in FAILPOINTS), "contain.done=2"])
def test_killed_anywhere_no_effect_is_without_intent_and_the_next_call_completes(ward: Ward, failpoint: str) -> None:
    incident_id = ward.change_outside()
    dies(ward, contain_incident, incident_id, failpoint)
    intended = ward.states(incident_id)
    assert {f"{kind} {dataset}" for kind, dataset in ward.held()} <= {" ".join(w.split()[:2]) for w in intended}
    assert ward.may_delete() or any(what.startswith("revoke") for what in intended)
    assert ward.contain(incident_id).state == "contained"
    assert ward.held() == ALL_HELD
    assert not ward.may_delete()
    assert set(ward.states(incident_id).values()) == {"done"}
    ward.release(incident_id)
    # Also what was taken by the call that died, before it could say so, is given back.
    assert ward.may_delete()
    assert ward.held() == set()
    assert ward.page(incident_id).tampered == ()


@pytest.mark.parametrize("failpoint", ["release.intended", "release.undone=2"])
def test_a_release_that_was_killed_is_completed_by_the_next(ward: Ward, failpoint: str) -> None:
    incident_id = ward.change_outside()
    ward.contain(incident_id)
    dies(ward, release_containment, incident_id, failpoint)
    ward.release(incident_id)
    assert ward.may_delete()
    assert ward.held() == set()
    assert set(ward.states(incident_id).values()) == {"undone"}


def lead(ward: Ward, incident_id: str, *states: Any) -> None:
    for target in states:
        with ward.control.begin() as connection:
            state = ward.page(incident_id).incident.state
            change_state(connection, incident_id, state, target, RUN, "on", NOW)
