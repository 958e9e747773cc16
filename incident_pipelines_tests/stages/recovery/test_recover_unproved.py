"""What was not counted or not read to its end is never taken for whole, nor for lost."""

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine, reading_url
from incident_pipelines.adapters.recovery_sources import landing_log
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.core.errors import SourceUnavailable, WindowOwned
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.scope import Affected, Scope
from incident_pipelines.core.recovery.plan import RecoveryPlan
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.incidents.contain import release_containment
from incident_pipelines.stages.incidents.containment_queue import incidents_to_release
from incident_pipelines.stages.recovery import recover
from incident_pipelines.stages.recovery.plan import make_plan
from incident_pipelines.stages.recovery.recover import (
    plan_incident,
    recover_incident,
    release_incident,
    scope_incident,
    verify_incident,
)
from incident_pipelines.stages.recovery.verify import published_by
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery.test_recover import LOST, lose_some, loss_of
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START, Shop, audited

pytestmark = pytest.mark.stack

ANN = Actor("person", "ann")


def allow_connections(shop: Shop, *, allowed: bool) -> None:
    """Let the app's database accept connections, or none, and end those that there are."""
    name = sql.Identifier(shop.databases.names["app"])
    with shop.databases.stack.postgres.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.SQL("true" if allowed else "false"))
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [shop.databases.names["app"]]
        )


@pytest.mark.parametrize("state", ["contained", "verifying"])
def test_a_log_that_cannot_be_counted_is_not_taken_for_whole(
    shop: Shop, topic: str, rng: random.Random, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    if state == "verifying":
        for begin in (scope_incident, plan_incident, recover_incident):
            begin(work)
    step = verify_incident if state == "verifying" else scope_incident
    with psycopg.connect(driver_url(shop.databases.url("warehouse"))) as other:
        other.execute("LOCK TABLE landing.orders IN ACCESS EXCLUSIVE MODE")
        monkeypatch.setattr(landing_log, "STATEMENT_TIMEOUT_SECONDS", 1)
        with pytest.raises(SourceUnavailable):
            step(work)
    monkeypatch.undo()
    assert shop.incident(incident_id).state == state
    assert shop.recover(incident_id) == "recovered"
    assert len(shop.raw()) == len(shop.sent)


def test_the_next_source_is_taken_when_one_breaks_off(
    shop: Shop, topic: str, rng: random.Random, tmp_path: Path
) -> None:
    """The outbox is gone by the time it is to be replayed; the audit log has everything."""
    incident_id = lose_some(shop, topic, rng)
    audited(tmp_path, list(shop.sent.values()))
    work = shop.work(incident_id)
    scope_incident(work)
    plan_incident(work)
    query(shop.databases.url("app", "app_service"), "ALTER TABLE outbox RENAME TO moved")
    assert recover_incident(work) == "verifying"
    assert verify_incident(work) == "planned"
    assert shop.recover(incident_id) == "recovered"
    loss = loss_of(shop, incident_id)
    assert (loss.recovered, loss.unrecoverable) == (LOST, 0)


def test_what_a_source_may_have_that_broke_off_is_not_stated_as_lost(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    scope_incident(work)
    plan_incident(work)
    allow_connections(shop, allowed=False)
    assert shop.recover(incident_id) == "escalated"
    loss = loss_of(shop, incident_id)
    assert (loss.recovered, loss.unrecoverable, loss.unknown_at_most) == (0, 0, LOST)
    assert shop.rows("SELECT count(*) FROM publication.holds WHERE kind = 'recovery'") == [(0,)]
    # A person closes it: its windows are let go of, and what may still be there is missing for whoever looks next.
    people = postgres_engine(shop.databases.url("control"), "ann")
    by_hand.resolve(people, incident_id, "the app's database is being restored", ANN, NOW)
    people.dispose()
    assert incidents_to_release(shop.control, shop.warehouse) == [incident_id]
    release_containment(shop.control, shop.warehouse, shop.catalog, shop.variables, incident_id, RUN, NOW)
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]
    allow_connections(shop, allowed=True)
    later = shop.lose(topic, 7)
    assert later != incident_id
    assert shop.recover(later) == "recovered"
    assert len(shop.raw()) == len(shop.sent)


def test_holds_end_with_an_incident_that_died_before_it_let_go(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    for step in (scope_incident, plan_incident, recover_incident, verify_incident):
        step(work)
    assert shop.incident(incident_id).state == "recovered"
    assert shop.rows("SELECT count(*) > 0 FROM publication.holds") == [(True,)]
    release_incident(work)
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]


def test_windows_are_held_in_parts_and_let_go_of_if_one_is_somebody_elses(
    shop: Shop, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recoveries that each held a part and waited for the rest would wait for each other."""
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    scope_incident(work)
    plan_incident(work)
    monkeypatch.setattr(recover, "MAX_WINDOWS", 2)
    with shop.control.connect() as connection:
        scope = latest_finding(connection, incident_id, "scope", Scope)
    assert scope is not None
    last = scope.suspects[-1].window
    query(
        shop.databases.url("warehouse"),
        "INSERT INTO publication.holds (dataset, window_start, window_end, incident_id, kind, reason, held_at) "
        "VALUES ('orders', %s, %s, 'INC-99', 'recovery', 'first', now())",
        last.start,
        last.end,
    )
    with pytest.raises(WindowOwned, match="INC-99"):
        recover_incident(work)
    assert shop.rows("SELECT DISTINCT incident_id FROM publication.holds WHERE kind = 'recovery'") == [("INC-99",)]
    query(shop.databases.url("warehouse"), "DELETE FROM publication.holds WHERE incident_id = 'INC-99'")
    assert shop.recover(incident_id) == "recovered"


def test_a_month_that_closes_after_the_plan_waits_for_a_person(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    scope_incident(work)
    assert plan_incident(work) == "planned"
    later = NOW + timedelta(days=31)
    assert (START.month, later.month) == (3, 4)
    assert recover_incident(shop.work(incident_id, clock=lambda: later)) == "awaiting_approval"
    assert len(shop.raw()) == len(shop.sent) - LOST
    people = postgres_engine(shop.databases.url("control"), "ann")
    by_hand.approve(people, incident_id, ANN, later)
    people.dispose()
    assert shop.recover(incident_id, clock=lambda: later) == "recovered"


def test_a_plan_is_made_by_a_role_that_can_only_read(
    shop: Shop, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident_id = lose_some(shop, topic, rng)
    scope_incident(shop.work(incident_id))
    users: list[str] = []

    def watched(catalog: Any, environment: dict[str, str], *given: Any, **named: Any) -> RecoveryPlan:
        assert "CONTROL_DATABASE_URL" not in environment
        users.extend(name for (name,) in query(environment["WAREHOUSE_URL"], "SELECT current_user"))
        return make_plan(catalog, environment, *given, **named)

    monkeypatch.setattr(recover, "make_plan", watched)
    reader = postgres_engine(reading_url(shop.variables["WAREHOUSE_URL"]), "planner")
    # Nothing that it does besides needs to write there either.
    assert plan_incident(replace(shop.work(incident_id), warehouse=reader)) == "planned"
    reader.dispose()
    assert users == ["planner"]


def test_every_window_that_some_plan_publishes_is_proved(shop: Shop) -> None:
    """What the first plan could not publish is not forgotten because the second one has other windows."""
    hours = [shop.catalog.window_of(shop.catalog.landed["orders"], START + timedelta(hours=n)) for n in (0, 1)]
    first, second = (Affected("orders", hour, "") for hour in hours)
    mart = Affected("turnover", shop.catalog.window_of(shop.catalog.marts["turnover"].contract, START), "")
    plans = [
        RecoveryPlan(incident_id="INC-1", revision=1, attempt=1, publishes=(first, mart)),
        RecoveryPlan(incident_id="INC-1", revision=1, attempt=2, publishes=(second, mart)),
    ]
    assert published_by(shop.catalog, plans) == [first, second, mart]
