"""The sensor that has incidents recovered: one run at a time for each; after too many that failed it gives up."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.guardrails import pause_after
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.incidents.recovery_job import INCIDENT_TAG, JOB, recovery_job
from incident_pipelines.defs.incidents.recovery_sensor import STEP_TAG, open_incidents_sensor
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incidents.by_hand import approve, resume, stop
from incident_pipelines.stages.recovery import replay
from incident_pipelines.stages.recovery.recover import plan_incident, scope_incident
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.recovery.test_recover import LOST, lose_some, loss_of
from incident_pipelines_tests.stages.recovery_shop import NOW, WITH_SENT_AND_TOLD, Shop, open_shop
from incident_pipelines_tests.stepped_lander import Died, dies_at

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


class Daemon:
    """What the Dagster daemon does: evaluates the sensor, and runs what it asks for."""

    def __init__(self, shop: Shop, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.job = recovery_job(shop.catalog)
        self.now = datetime.now(UTC)
        self.sensor = open_incidents_sensor(shop.catalog, self.job, clock=lambda: self.now)
        self.control = PostgresResource(url=shop.variables["CONTROL_DATABASE_URL"])
        self.warehouse = PostgresResource(url=shop.variables["WAREHOUSE_URL"])

    def tick(self) -> tuple[list[dg.RunRequest], str | None]:
        resources = {"control": self.control, "warehouse": self.warehouse}
        with dg.build_sensor_context(instance=self.instance, resources=resources) as context:
            ticked = self.sensor.evaluate_tick(context)
        return list(ticked.run_requests or []), ticked.skip_message

    def run(self, request: dg.RunRequest, warehouse: PostgresResource | None = None) -> dg.DagsterRunStatus:
        done = self.job.execute_in_process(
            run_config=request.run_config,
            tags=dict(request.tags),
            instance=self.instance,
            resources={"warehouse": warehouse or self.warehouse, "control": self.control},
            raise_on_error=False,
        )
        return done.dagster_run.status


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random) -> Iterator[Shop]:
    topic = new_topic("orders")
    opened = open_shop(own_databases, tmp_path, topic, rng, more=WITH_SENT_AND_TOLD)
    assert lose_some(opened, topic, rng) == "INC-1"
    yield opened
    opened.close()


@pytest.fixture
def daemon(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    for name, value in shop.variables.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(shop, instance)


def test_a_recovery_whose_runs_fail_is_escalated_once(shop: Shop, daemon: Daemon) -> None:
    nowhere = PostgresResource(url="postgresql+psycopg://publisher@127.0.0.1:1/none")
    requests: list[dg.RunRequest] = []
    for attempt in (1, 2, 3):
        (request,), _ = daemon.tick()
        requests.append(request)
        assert (request.tags[INCIDENT_TAG], request.tags["incident/severity"]) == ("INC-1", "P0")
        assert daemon.run(request, nowhere) == dg.DagsterRunStatus.FAILURE
        daemon.now = datetime.now(UTC)
        if attempt < 3:
            assert f"INC-1: runs so far: {attempt}, the next at " in str(daemon.tick())
            daemon.now += pause_after(attempt)
    (step,) = {request.tags[STEP_TAG] for request in requests}
    assert step.startswith("contained.")
    assert [request.run_key for request in requests] == [f"INC-1:{step}:{attempt}" for attempt in (1, 2, 3)]
    given_up, said = daemon.tick()
    assert (given_up, shop.incident("INC-1").state) == ([], "escalated")
    assert "INC-1: escalated, as 3 runs failed" in str(said)
    for _ in range(3):
        daemon.now += timedelta(minutes=5)
        assert daemon.tick() == ([], "INC-1: escalated")
    (told,) = [entry.text for entry in shop.page("INC-1").entries if entry.state_to == "escalated"]
    assert "3 runs failed while contained" in told
    assert len(shop.raw()) < len(shop.sent)


def test_what_was_left_to_others_is_proved_again_once_one_of_them_has_recovered(shop: Shop, daemon: Daemon) -> None:
    person = Actor("person", "ann")
    stop(shop.control, "INC-1", "not now", person, NOW)
    ((lost_at,),) = query(
        shop.databases.url("app"),
        "SELECT max(occurred_at) FROM outbox WHERE event_id <> ALL (%s)",
        list(shop.raw()),
    )
    window = TimeWindow.hour_of(lost_at.astimezone(UTC))
    shop.alter(window)
    incident_id = shop.signal("window_changed_outside", "orders", window)
    assert shop.recover(incident_id) == "escalated"
    assert daemon.tick() == ([], f"INC-1: stopped by ann; {incident_id}: escalated")
    resume(shop.control, "INC-1", person, NOW)
    assert shop.recover("INC-1") == "recovered"
    daemon.tick()
    assert shop.incident(incident_id).state == "verifying"
    (request,), _ = daemon.tick()
    assert request.tags[INCIDENT_TAG] == incident_id
    assert daemon.run(request) == dg.DagsterRunStatus.SUCCESS
    assert shop.incident(incident_id).state == "recovered"


def test_no_second_run_begins_while_one_is_under_way_and_a_failed_one_is_followed_by_one_that_ends_it(
    shop: Shop, daemon: Daemon
) -> None:
    (request,), _ = daemon.tick()
    under_way = daemon.instance.create_run_for_job(
        daemon.job, run_config=request.run_config, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED
    )
    daemon.now += timedelta(hours=1)
    assert daemon.tick() == ([], "INC-1: a run is under way")
    daemon.instance.report_run_failed(under_way, "killed")
    (again,), _ = daemon.tick()
    assert again.run_key != request.run_key
    assert daemon.run(again) == dg.DagsterRunStatus.SUCCESS
    approved = approved_run(shop, daemon)
    assert approved.tags[STEP_TAG].startswith("planned.")
    assert daemon.run(approved) == dg.DagsterRunStatus.SUCCESS
    assert shop.incident("INC-1").state == "recovered"
    assert len(shop.raw()) == len(shop.sent)
    assert daemon.tick()[0] == []
    assert len(daemon.instance.get_runs(dg.RunsFilter(job_name=JOB))) == 3


def test_runs_that_do_not_lead_on_follow_each_other_ever_more_slowly(daemon: Daemon) -> None:
    pauses: list[float] = []
    for earlier in range(8):
        (request,), _ = daemon.tick()
        assert str(request.run_key).endswith(f":{earlier + 1}")
        daemon.instance.create_run_for_job(
            daemon.job, run_config=request.run_config, tags=dict(request.tags), status=dg.DagsterRunStatus.SUCCESS
        )
        (run,) = daemon.instance.get_run_records(dg.RunsFilter(job_name=JOB), limit=1)
        for seconds in (30, 60, 120, 240, 480, 600, 3600):
            daemon.now = run.create_timestamp.astimezone(UTC) + timedelta(seconds=seconds - 1)
            assert daemon.tick()[0] == []
            daemon.now += timedelta(seconds=1)
            if daemon.tick()[0]:
                pauses.append(seconds)
                break
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]


def test_no_run_begins_while_another_incident_has_the_windows(shop: Shop, daemon: Daemon) -> None:
    contract = shop.catalog.landed["orders"]
    assert isinstance(contract, EventContract)
    assert shop.signal("topic_recreated", "orders", None, topic=contract.topic) == "INC-2"
    later = shop.work("INC-2")
    scope_incident(later)
    plan_incident(later)
    with dies_at("recover.replayed"), pytest.raises(Died):
        shop.recover("INC-1")
    (first,), _ = daemon.tick()
    assert first.tags[INCIDENT_TAG] == "INC-1"
    under_way = daemon.instance.create_run_for_job(
        daemon.job, run_config=first.run_config, tags=dict(first.tags), status=dg.DagsterRunStatus.STARTED
    )
    requests, said = daemon.tick()
    assert requests == []
    assert "INC-1: a run is under way; INC-2: orders 2026-03-01T" in str(said)
    assert "is being recovered by INC-1" in str(said)
    assert shop.recover("INC-1") == "recovered"
    daemon.instance.report_run_failed(under_way, "over")
    (second,), _ = daemon.tick()
    assert second.tags[INCIDENT_TAG] == "INC-2"


def test_a_run_that_a_person_starts_meanwhile_ends_at_once_and_says_who_is_at_work(
    shop: Shop, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,), _ = daemon.tick()
    assert daemon.run(request) == dg.DagsterRunStatus.SUCCESS
    approved = approved_run(shop, daemon)
    ends: list[dg.DagsterRunStatus] = []
    by_hand = dg.RunRequest(run_config=request.run_config)

    def meanwhile(point: str) -> None:
        if point == "replay.before_append" and not ends:
            assert shop.incident("INC-1").state == "recovering"
            person = threading.Thread(target=lambda: ends.append(daemon.run(by_hand)))
            person.start()
            person.join(60)
            assert shop.incident("INC-1").state == "recovering"

    monkeypatch.setattr(replay, "failpoint", meanwhile)
    assert daemon.run(approved) == dg.DagsterRunStatus.SUCCESS
    assert ends == [dg.DagsterRunStatus.SUCCESS]
    # Both are found under the incident, whoever started them.
    runs = daemon.instance.get_runs(dg.RunsFilter(job_name=JOB, tags={INCIDENT_TAG: "INC-1"}))
    (second,) = (run for run in runs if STEP_TAG not in run.tags)
    (first,) = (run for run in runs if run.tags.get(STEP_TAG) == approved.tags[STEP_TAG])
    told = {entry.user_message for entry in daemon.instance.all_logs(second.run_id) if entry.level == logging.WARNING}
    assert told == {f"INC-1 is being recovered by INC-1 dagster run {first.run_id}, which goes on alone"}
    assert shop.incident("INC-1").state == "recovered"
    assert shop.rows("SELECT count(*) FROM landing.orders") == [(len(shop.sent),)]
    assert loss_of(shop, "INC-1").recovered == LOST


def approved_run(shop: Shop, daemon: Daemon) -> dg.RunRequest:
    """Approve the plan, which a person has to as it changes a closed month; return the run that follows."""
    assert daemon.tick() == ([], "INC-1: a person has to approve")
    people = postgres_engine(shop.databases.url("control"), "ann")
    approve(people, "INC-1", Actor("person", "ann"), daemon.now)
    people.dispose()
    (approved,), _ = daemon.tick()
    return approved
