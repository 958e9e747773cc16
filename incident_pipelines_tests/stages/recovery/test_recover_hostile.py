"""Incidents side by side, sources and databases that fail, events that keep coming: each recovery ends, and once."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.recovery_sources import source as reading
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.core.errors import GuardrailReached, SourceUnavailable, WindowOwned
from incident_pipelines.core.recovery.guardrails import Guardrails
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents.contain import contain_incident
from incident_pipelines.stages.incidents.pages import listed_incidents
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.recovery import verify as verification
from incident_pipelines.stages.recovery.recover import plan_incident, recover_incident, scope_incident
from incident_pipelines.stages.recovery.replay import Replayer
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages import recovery_shop
from incident_pipelines_tests.stages.recovery.test_recover import LOST, lose_some, loss_of
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START, Shop, open_shop
from incident_pipelines_tests.stepped_lander import Died, dies_at

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

SIGNAL = (
    "INSERT INTO monitoring.signals (kind, severity, dataset, detail, occurred_at, raised_at) "
    "VALUES ('offsets_aged_out', 'critical', 'orders', '{\"summary\": \"again\"}', %s, %s)"
)


def assert_all_is_there_once(shop: Shop) -> None:
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}
    assert shop.rows("SELECT count(DISTINCT event_id), count(*) FROM landing.orders") == [(len(shop.sent),) * 2]
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]
    for incident in listed_incidents(shop.control):
        assert shop.page(incident.incident_id).tampered == ()


def respond(shop: Shop, incident_id: str, now: datetime) -> str:
    """Do what the sensors do until nothing is left to do: one that has grown is contained and scoped again."""
    state = shop.recover(incident_id, clock=lambda: now)
    if state == "detected":
        contain_incident(shop.control, shop.warehouse, shop.catalog, shop.variables, incident_id, RUN, now)
        state = shop.recover(incident_id, clock=lambda: now)
    return state


def planned(shop: Shop, incident_id: str, limits: Guardrails, **options: Any) -> Callable[[], int]:
    """Scope and plan an incident; return what replays its plan, held to these limits, and counts what it appends."""
    work = shop.work(incident_id)
    scope_incident(work)
    plan_incident(work)
    with shop.control.connect() as connection:
        stored = latest_plan(connection, incident_id)
    assert stored is not None
    given = (shop.control, shop.warehouse, shop.catalog, shop.variables, incident_id, stored.plan_id, limits)
    return lambda: sum(span.appended for span in Replayer(*given, **options).replay(plan_of(stored.body).replays))


def test_of_two_incidents_on_the_same_windows_one_waits_and_has_nothing_left_to_do(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    first = lose_some(shop, topic, rng)
    second = shop.signal("topic_recreated", "orders", None, topic=topic)
    assert first != second
    work = shop.work(second)
    scope_incident(work)
    plan_incident(work)
    with dies_at("recover.replayed"), pytest.raises(Died):
        shop.recover(first)
    with pytest.raises(WindowOwned, match=f"is being recovered by {first} "):
        recover_incident(work)
    assert shop.incident(second).state == "planned"
    assert shop.recover(first) == "recovered"
    assert shop.recover(second) == "recovered"
    assert_all_is_there_once(shop)
    assert (loss_of(shop, first).recovered, loss_of(shop, second).recovered) == (LOST, 0)


def test_two_incidents_on_different_windows_are_recovered_at_once(
    own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = 2
    now = NOW + timedelta(days=days - 1)
    monkeypatch.setattr(recovery_shop, "HOURS", days * 24 - 12)
    monkeypatch.setattr(recovery_shop, "NOW", now)
    shop = open_shop(own_databases, tmp_path, topic, rng)
    midnight = (START + timedelta(days=1)).replace(hour=0).isoformat()
    early = sorted(name for name, event in shop.sent.items() if event["occurred_at"] < midnight)
    late = sorted(shop.sent.keys() - set(early))
    lost = set(rng.sample(early, len(early) // 2))
    shop.land([name for name in sorted(shop.sent) if name not in lost])
    shop.publish_all()
    gone = rng.choice(late)
    at = datetime.fromisoformat(shop.sent[gone]["occurred_at"])
    query(own_databases.url("warehouse"), "DELETE FROM raw.orders WHERE event_id = %s", gone)
    both = [shop.lose(topic, len(lost)), shop.signal("window_changed_outside", "orders", TimeWindow.hour_of(at))]
    assert len(set(both)) == 2
    barrier = threading.Barrier(2)
    ends: dict[str, str | BaseException] = {}

    def lead(incident_id: str) -> None:
        try:
            barrier.wait(20)
            ends[incident_id] = shop.recover(incident_id, clock=lambda: now)
        except BaseException as error:
            ends[incident_id] = error

    threads = [threading.Thread(target=lead, args=[incident_id]) for incident_id in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert ends == dict.fromkeys(both, "recovered")
    assert_all_is_there_once(shop)
    shop.close()


def test_the_same_signal_for_an_hour_is_one_incident_whatever_state_it_is_in(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id = lose_some(shop, topic, rng)
    states: list[str] = []
    for minute in range(60):
        at = NOW + timedelta(minutes=minute)
        query(shop.databases.url("control"), SIGNAL, at, at)
        taken = take_signals(shop.control, shop.catalog, at)
        assert (taken.opened, taken.joined) == ((), (incident_id,))
        contain_incident(shop.control, shop.warehouse, shop.catalog, shop.variables, incident_id, RUN, at)
        states.append(shop.incident(incident_id).state)
        if minute == 20:
            with dies_at("recover.replayed"), pytest.raises(Died):
                shop.recover(incident_id, clock=lambda at=at: at)
        if minute in (40, 59):
            assert respond(shop, incident_id, at) == "recovered"
    assert {"contained", "recovering"} <= set(states)
    assert len(listed_incidents(shop.control)) == 1
    assert shop.incident(incident_id).signals == 61
    assert_all_is_there_once(shop)


def test_events_that_keep_arriving_do_not_keep_a_recovery_from_its_end(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    """Some of what arrives is what the recovery brings back at the same moment: each is published once."""
    names = sorted(shop.sent)
    lost = rng.sample(names, LOST)
    shop.land([name for name in names if name not in lost])
    shop.publish_all()
    incident_id = shop.lose(topic, 2 * LOST)
    over, failed = threading.Event(), list[BaseException]()
    arrived = list[str]()

    def arrive() -> None:
        try:
            for name in lost[: LOST // 3]:
                if over.wait(0.1):
                    return
                shop.land([name])
                arrived.append(name)
        except BaseException as error:
            failed.append(error)

    arriving = threading.Thread(target=arrive)
    arriving.start()
    state = shop.recover(incident_id)
    over.set()
    arriving.join(30)
    assert failed == []
    assert arrived
    assert state == "recovered"
    shop.publish_all()
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}
    brought = "SELECT count(*) FROM landing.orders JOIN landing.origins USING (origin_id) WHERE kind = 'recovery'"
    ((appended,),) = shop.rows(brought)
    assert LOST - len(arrived) <= appended <= LOST


def test_events_that_arrive_faster_than_a_window_can_be_published_disprove_nothing(
    shop: Shop, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each publish of the proof one more comes into its hour, of which neither totals nor sources know."""
    hours: dict[TimeWindow, list[str]] = {}
    for name, event in sorted(shop.sent.items()):
        hours.setdefault(TimeWindow.hour_of(datetime.fromisoformat(event["occurred_at"])), []).append(name)
    hour = rng.choice(sorted(hours))
    late = hours[hour][:10]
    query(shop.databases.url("app", "app_service"), "DELETE FROM outbox WHERE event_id = ANY(%s) RETURNING 1", late)
    query(
        shop.databases.url("app", "app_service"),
        "TRUNCATE totals; INSERT INTO totals SELECT date_trunc('minute', occurred_at), count(*) FROM outbox GROUP BY 1",
    )
    others = [name for name in sorted(shop.sent) if name not in late]
    shop.land(others[LOST:])
    shop.publish_all()
    incident_id = shop.lose(topic, LOST)
    publish = verification.refresh_window

    def publish_after_another_came(*arguments: Any, **options: Any) -> Any:
        if arguments[3] == hour and late:
            shop.land([late.pop()])
        return publish(*arguments, **options)

    monkeypatch.setattr(verification, "refresh_window", publish_after_another_came)
    assert shop.recover(incident_id) == "recovered"
    assert len(late) <= 6
    monkeypatch.undo()
    shop.land(late)
    shop.publish_all()
    assert_all_is_there_once(shop)


@pytest.mark.parametrize("point", ["recover.replayed", "recover.verified"])
def test_what_ages_out_during_a_recovery_is_recovered_too(
    shop: Shop, topic: str, rng: random.Random, point: str
) -> None:
    """The second loss is of the same dataset and names no window: nothing but its signal says that there is more."""
    outbox = shop.databases.url("app", "app_service")
    names = sorted(shop.sent)
    later = rng.sample(names, 30)
    set_aside = "WITH gone AS (DELETE FROM outbox WHERE event_id = ANY(%s) RETURNING *) SELECT * FROM gone"
    rows = query(outbox, set_aside, later)
    count = (
        "TRUNCATE totals; INSERT INTO totals SELECT date_trunc('minute', occurred_at), count(*) FROM outbox GROUP BY 1"
    )
    query(outbox, count)
    shop.land([name for name in names if name not in later][LOST:])
    shop.publish_all()
    incident_id = shop.lose(topic, LOST)
    with dies_at(point), pytest.raises(Died):
        shop.recover(incident_id)
    for row in rows:
        query(outbox, "INSERT INTO outbox VALUES (%s, %s, %s, %s)", *row)
    query(outbox, count)
    query(shop.databases.url("control"), SIGNAL, NOW, NOW)
    assert take_signals(shop.control, shop.catalog, NOW).joined == (incident_id,)
    assert respond(shop, incident_id, NOW) == "recovered"
    assert_all_is_there_once(shop)


def test_connections_that_are_cut_at_any_moment_only_delay_it(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id = lose_some(shop, topic, rng)
    names = [shop.databases.names["control"], shop.databases.names["warehouse"]]
    over, cuts = threading.Event(), list[int]()

    def cut() -> None:
        url = shop.databases.url("control")
        while len(cuts) < 8 and not over.wait(rng.uniform(0, 0.1)):
            statement = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = ANY(%s) AND usename = 'publisher' AND pid <> pg_backend_pid()"
            )
            cuts.append(len(query(url, statement, names)))

    cutting = threading.Thread(target=cut)
    cutting.start()
    state, tries = "", 0
    while state != "recovered":
        tries += 1
        assert tries < 60, f"still {state} after {sum(cuts)} cuts"
        try:
            state = shop.recover(incident_id)
        except (SourceUnavailable, DBAPIError):
            shop.control.dispose()
            shop.warehouse.dispose()
            state = ""
    over.set()
    cutting.join(30)
    assert sum(cuts), "nothing was cut"
    assert_all_is_there_once(shop)
    assert loss_of(shop, incident_id).recovered == LOST
    ((taken, at_most),) = query(shop.databases.url("control"), "SELECT taken, events_at_most FROM incidents.budgets")
    assert LOST <= taken <= at_most


def test_a_plan_never_replays_more_than_its_budget_however_often_it_is_begun(
    shop: Shop, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 10)
    incident_id = lose_some(shop, topic, rng)
    replay = planned(shop, incident_id, Guardrails(None, 50))
    for _ in range(2):
        with dies_at("replay.before_commit"), pytest.raises(Died):
            replay()
    for _ in range(2):
        with pytest.raises(GuardrailReached, match="50 events in all"):
            replay()
    ((appended,),) = shop.rows(f"SELECT count(*) - {len(shop.sent) - LOST} FROM landing.orders")
    ((taken,),) = query(shop.databases.url("control"), "SELECT taken FROM incidents.budgets")
    # What was taken by who died before writing it is gone: the budget says what may be done at most.
    assert 0 < appended < taken <= 50


def test_a_replay_whose_events_fail_is_stopped_and_a_person_is_asked(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id = lose_some(shop, topic, rng)
    query(
        shop.databases.url("app", "app_service"),
        "UPDATE outbox SET value = replace(value, '\"amount\":', '\"amount\":-')",
    )
    assert shop.recover(incident_id) == "escalated"
    told = [entry.text for entry in shop.page(incident_id).entries if entry.state_to == "escalated"]
    assert len(told) == 1
    assert "120 of 120 replayed events break their contract" in told[0]
    assert len(shop.raw()) == len(shop.sent) - LOST


def test_a_replay_goes_at_the_rate_it_may_and_no_faster(
    shop: Shop, topic: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 20)
    incident_id = lose_some(shop, topic, rng)
    rate = 40.0
    replay = planned(shop, incident_id, Guardrails(rate, 1_000))
    began = datetime.now(UTC)
    assert replay() == LOST
    landed = shop.rows(
        "SELECT landed_at, count(*) FROM landing.orders JOIN landing.origins USING (origin_id) "
        "WHERE kind = 'recovery' GROUP BY 1 ORDER BY 1"
    )
    assert len(landed) > 5
    last, events = landed[-1]
    measured = (LOST - events) / (last - began).total_seconds()
    print(f"replayed {measured:.1f} events a second of {rate:.0f}")
    # The lower end leaves room for a busy machine: on an idle one it is within 5 %.
    assert 0.5 * rate <= measured <= rate
