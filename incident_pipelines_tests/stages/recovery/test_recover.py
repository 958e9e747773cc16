"""A contained incident is scoped, planned, recovered and proved, whatever dies on the way; what is gone is said."""

import json
import os
import random
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine, reading_url
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.incidents.closer_watch import watch_recovered
from incident_pipelines.stages.recovery.recover import plan_incident, recover_incident, scope_incident
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery_shop import NOW, START, Shop, audited, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

LOST = 120
POINTS = (
    "replay.before_append",
    "replay.before_commit",
    "replay.after_commit",
    "recover.held",
    "recover.replayed",
    "recover.published",
    "recover.verified",
)
STEP = """
import sys
from datetime import datetime
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.recovery import recover
from incident_pipelines.stages.recovery.work import Work
import os
now = datetime.fromisoformat(sys.argv[2])
work = Work(postgres_engine(os.environ["CONTROL_DATABASE_URL"], "t"), postgres_engine(os.environ["WAREHOUSE_URL"], "t"),
            load_catalog(os.environ), os.environ, sys.argv[1], Actor("run", "killed"), "killed", clock=lambda: now)
for step in (recover.scope_incident, recover.plan_incident, recover.recover_incident, recover.verify_incident):
    step(work)
"""


def lose_some(shop: Shop, topic: str, rng: random.Random) -> str:
    """Land all but some events, publish, and open the incident."""
    names = sorted(shop.sent)
    lost = set(rng.sample(names, LOST))
    shop.land([name for name in names if name not in lost])
    shop.publish_all()
    return shop.lose(topic, 2 * LOST)


def test_missing_events_come_back_once_and_are_proved(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    assert len(shop.raw()) == len(shop.sent) - LOST
    assert shop.recover(incident_id) == "recovered"
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}
    assert shop.rows("SELECT count(*) FROM landing.orders") == [(len(shop.sent),)]
    assert shop.rows("SELECT kind, note FROM landing.origins WHERE kind = 'recovery'") == [("recovery", incident_id)]
    loss = loss_of(shop, incident_id)
    assert (loss.recovered, loss.unrecoverable, loss.unknown_at_most, loss.duplicates) == (LOST, 0, 0, 0)
    # The mart followed, and its reported numbers are said to have moved.
    ordered = sum(Decimal(str(one["amount"])) for one in shop.sent.values() if one["event_type"] == "ordered")
    assert shop.rows("SELECT sum(amount) FROM marts.turnover") == [(ordered,)]
    assert {one.dataset for one in loss.restated} == {"turnover"}
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]
    page = shop.page(incident_id)
    assert page.tampered == ()
    assert [entry.state_to for entry in page.entries if entry.state_to] == [
        "detected",
        "contained",
        "scoped",
        "planned",
        "recovering",
        "verifying",
        "recovered",
    ]


@pytest.mark.parametrize("point", POINTS)
def test_a_recovery_that_is_killed_goes_on_where_it_was(shop: Shop, topic: str, rng: random.Random, point: str) -> None:
    incident_id = lose_some(shop, topic, rng)
    environment = {**os.environ, **shop.variables, ENVIRONMENT_VARIABLE: point}
    killed = subprocess.run([sys.executable, "-c", STEP, incident_id, NOW.isoformat()], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert shop.incident(incident_id).state != "recovered"
    assert shop.recover(incident_id) == "recovered"
    assert len(shop.raw()) == len(shop.sent)
    assert shop.rows("SELECT count(*) FROM landing.orders") == [(len(shop.sent),)]
    assert loss_of(shop, incident_id).recovered == LOST
    ((taken, at_most),) = query(
        shop.databases.url("control"), "SELECT taken, events_at_most FROM incidents.budgets ORDER BY plan_id"
    )
    assert LOST <= taken <= at_most


def test_what_no_source_has_is_stated_as_lost(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    query(shop.databases.url("app", "app_service"), "DELETE FROM outbox")
    assert shop.recover(incident_id) == "recovered"
    loss = loss_of(shop, incident_id)
    assert (loss.recovered, loss.unrecoverable, loss.unknown_at_most) == (0, LOST, 0)


def test_a_loss_that_was_stated_is_not_counted_again(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    query(shop.databases.url("app", "app_service"), "DELETE FROM outbox")
    assert shop.recover(incident_id) == "recovered"
    people = postgres_engine(shop.databases.url("control"), "ann")
    by_hand.resolve(people, incident_id, "known", Actor("person", "ann"), NOW)
    people.dispose()
    later = shop.lose(topic, 7)
    assert later != incident_id
    assert shop.recover(later) == "recovered"
    assert loss_of(shop, later).unrecoverable == 0


def test_what_the_lander_brings_by_itself_is_published_and_not_replayed(shop: Shop, rng: random.Random) -> None:
    names = sorted(shop.sent)
    shop.land(names[:100])
    shop.publish_all()
    shop.land(names[100:])
    incident_id = shop.signal("landing_stalled", "orders", None)
    assert shop.recover(incident_id) == "recovered"
    assert len(shop.raw()) == len(names)
    assert shop.rows("SELECT count(*) FROM landing.origins WHERE kind = 'recovery'") == [(0,)]


def test_the_next_source_is_taken_for_what_the_first_did_not_have(
    shop: Shop, topic: str, rng: random.Random, tmp_path: Path
) -> None:
    """The outbox counts all and has lost the content of half of it; the audit log has the rest."""
    incident_id = lose_some(shop, topic, rng)
    query(
        shop.databases.url("app", "app_service"),
        "UPDATE outbox SET value = NULL WHERE event_id IN (SELECT event_id FROM outbox ORDER BY event_id LIMIT 150)",
    )
    audited(tmp_path, list(shop.sent.values()))
    assert shop.recover(incident_id) == "recovered"
    assert len(shop.raw()) == len(shop.sent)
    assert loss_of(shop, incident_id).unrecoverable == 0


def test_a_plan_waits_for_a_person_and_is_carried_out_once_approved(
    own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random
) -> None:
    shop = open_shop(own_databases, tmp_path, topic, rng, mode="propose")
    incident_id = lose_some(shop, topic, rng)
    assert shop.recover(incident_id) == "awaiting_approval"
    assert len(shop.raw()) == len(shop.sent) - LOST
    people = postgres_engine(shop.databases.url("control"), "ann")
    plan, _ = by_hand.approve(people, incident_id, Actor("person", "ann"), NOW)
    people.dispose()
    assert plan_of(plan.body).digest == plan.digest
    assert shop.recover(incident_id) == "recovered"
    assert len(shop.raw()) == len(shop.sent)
    shop.close()


def test_a_stopped_incident_is_left_where_it_is(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    work = shop.work(incident_id)
    scope_incident(work)
    plan_incident(work)
    by_hand.stop(shop.control, incident_id, "not now", Actor("person", "ann"), NOW)
    assert recover_incident(work) == "planned"
    assert len(shop.raw()) == len(shop.sent) - LOST
    by_hand.resume(shop.control, incident_id, Actor("person", "ann"), NOW)
    assert shop.recover(incident_id) == "recovered"


def test_what_goes_missing_after_a_recovery_is_a_signal_while_it_lasts(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id = lose_some(shop, topic, rng)
    assert shop.recover(incident_id) == "recovered"
    assert watch_recovered(shop.control, shop.catalog, shop.variables, NOW)[0].endswith("0 miss events anew")
    ((gone,),) = shop.rows(
        "DELETE FROM landing.orders WHERE ctid IN (SELECT ctid FROM landing.orders LIMIT 1) RETURNING value"
    )
    watch_recovered(shop.control, shop.catalog, shop.variables, NOW)
    watch_recovered(shop.control, shop.catalog, shop.variables, NOW)
    signals = "SELECT count(*), count(cleared_at) FROM monitoring.signals WHERE kind = 'recovery_undone'"
    assert query(shop.databases.url("control"), signals) == [(1, 0)]
    shop.land([json.loads(bytes(gone))["event_id"]])
    watch_recovered(shop.control, shop.catalog, shop.variables, NOW)
    assert query(shop.databases.url("control"), signals) == [(1, 1)]


def test_what_another_incident_has_stated_since_is_not_missing_anew(shop: Shop, topic: str, rng: random.Random) -> None:
    first = lose_some(shop, topic, rng)
    assert shop.recover(first) == "recovered"
    by_hand.resolve(shop.control, first, "looked at", Actor("person", "ann"), NOW)
    gone = shop.rows(
        "DELETE FROM landing.orders WHERE event_id IN (SELECT event_id FROM landing.orders ORDER BY event_id LIMIT 5) "
        "RETURNING event_id"
    )
    outbox = shop.databases.url("app", "app_service")
    query(outbox, "DELETE FROM outbox WHERE event_id = ANY (%s) RETURNING 1", [event_id for (event_id,) in gone])
    second = shop.lose(topic, 5)
    assert second != first
    assert shop.recover(second) == "recovered"
    assert loss_of(shop, second).unrecoverable == 5
    watched = watch_recovered(shop.control, shop.catalog, shop.variables, NOW)
    assert len(watched) == 2
    assert all(told.endswith("0 miss events anew") for told in watched)


def test_an_hour_between_those_that_were_scoped_is_contained_and_repaired_as_well(shop: Shop) -> None:
    shop.land(sorted(shop.sent))
    shop.publish_all()
    first, between, last = (TimeWindow.hour_of(START + hours * HOUR) for hours in (1, 3, 5))
    for hour in (first, between, last):
        shop.alter(hour)
    incident_id = shop.signal("window_changed_outside", "orders", first)
    assert shop.signal("window_changed_outside", "orders", last) == incident_id
    assert scope_incident(shop.work(incident_id)) == "scoped"
    assert shop.signal("window_changed_outside", "orders", between) == incident_id
    held = shop.rows("SELECT window_start FROM publication.holds WHERE kind = 'quarantine' ORDER BY 1")
    assert held == [(hour.start,) for hour in (first, between, last)]
    assert shop.recover(incident_id) == "recovered"
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}


def test_planning_cannot_write(shop: Shop) -> None:
    with psycopg.connect(driver_url(reading_url(shop.variables["WAREHOUSE_URL"])), autocommit=True) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("planner",)
        for allowed in ("SET default_transaction_read_only = off", "SELECT count(*) FROM raw.orders"):
            connection.execute(allowed)
        for statement in (
            "INSERT INTO landing.orders SELECT * FROM landing.orders",
            "DELETE FROM raw.orders",
            "UPDATE marts.turnover SET amount = 0",
            "DELETE FROM publication.holds",
            "CREATE TABLE raw.mine (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def loss_of(shop: Shop, incident_id: str) -> LossStatement:
    """The loss statement of an incident."""
    with shop.control.connect() as connection:
        found = latest_finding(connection, incident_id, "loss", LossStatement)
    assert found is not None
    return found
