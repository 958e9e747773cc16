"""The sensor that looks at how runs end: a job is one signal from its first failure until it succeeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from incident_pipelines.defs.incidents.recovery_job import JOB as RECOVERY_JOB
from incident_pipelines.defs.incidents.run_failures import WILL_RETRY_TAG, run_failures_sensor, watched_jobs
from incident_pipelines.defs.refresh.job import REFUSED_TAG
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

RETRIES = {"run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}}


class Broken(Exception):
    """What is raised in a job."""


@dg.op(config_schema={"fail": dg.Field(str, default_value="")})
def work(context: dg.OpExecutionContext) -> None:
    if context.op_config["fail"] == "told":
        raise dg.Failure("billing is down: postgresql://reader:secret@billing/db\nrow 7: Jane Doe")
    if context.op_config["fail"]:
        raise Broken(context.op_config["fail"])


def job_named(name: str) -> dg.JobDefinition:
    return dg.JobDefinition(name=name, graph_def=dg.GraphDefinition("working", node_defs=[work]))


@dataclass
class Daemon:
    """What the Dagster daemon does about some jobs."""

    databases: Databases
    instance: dg.DagsterInstance
    jobs: dict[str, dg.JobDefinition]

    def run(self, job: str, fail: str = "", tags: Mapping[str, str] | None = None) -> str:
        """Run a job to its end; return the id of the run."""
        return (
            self.jobs[job]
            .execute_in_process(
                run_config={"ops": {"work": {"config": {"fail": fail}}}},
                instance=self.instance,
                tags=tags,
                raise_on_error=False,
            )
            .run_id
        )

    def begin(self, job: str, **of: Any) -> dg.DagsterRun:
        """Begin a run that goes on."""
        return self.instance.create_run_for_job(self.jobs[job], status=dg.DagsterRunStatus.STARTED, **of)

    def tick(self, url: str | None = None) -> str | None:
        control = PostgresResource(url=url or self.databases.url("control", "publisher"))
        with dg.build_sensor_context(
            instance=self.instance,
            resources={"control": control},
            repository_def=dg.Definitions(jobs=list(self.jobs.values())).get_repository_def(),
        ) as context:
            return run_failures_sensor().evaluate_tick(context).skip_message

    def signals(self) -> list[tuple[str, bool]]:
        """Job of each signal, and whether it lasts."""
        found = query(
            self.databases.url("control"),
            "SELECT dataset, cleared_at IS NULL FROM monitoring.signals WHERE kind = 'run_failed' ORDER BY signal_id",
        )
        return [tuple(row) for row in found]


@pytest.fixture
def daemon(own_databases: Databases) -> Iterator[Daemon]:
    prepare_control(own_databases.url("control"))
    jobs = {name: job_named(name) for name in ("nightly", "hourly", RECOVERY_JOB)}
    with dg.instance_for_test(overrides=RETRIES) as instance:
        yield Daemon(own_databases, instance, jobs)


def test_the_sensor_runs_by_default_and_looks_at_jobs_that_run_again_by_themselves() -> None:
    sensor = run_failures_sensor()
    assert (sensor.name, sensor.default_status) == ("run_failures_sensor", dg.DefaultSensorStatus.RUNNING)
    assert watched_jobs(["refresh_windows", RECOVERY_JOB, "__ASSET_JOB", "measure_clearing"]) == [
        "measure_clearing",
        "refresh_windows",
    ]


def test_a_job_is_one_signal_from_its_first_failure_until_it_succeeds(daemon: Daemon) -> None:
    daemon.run("nightly")
    assert daemon.tick() == "0 of 2 jobs fail, as before"
    daemon.run("nightly", "no disk")
    daemon.run("hourly", "no disk")
    assert daemon.tick() == "hourly fails; nightly fails"
    daemon.run("nightly", "no disk")
    assert daemon.tick() == "2 of 2 jobs fail, as before"
    daemon.run("nightly")
    assert daemon.tick() == "nightly succeeds again"
    assert daemon.signals() == [("hourly", True), ("nightly", False)]
    daemon.run("nightly", "no disk")
    assert daemon.tick() == "nightly fails"
    assert daemon.signals() == [("hourly", True), ("nightly", False), ("nightly", True)]


def test_it_says_which_run_and_why_without_secrets_or_rows(daemon: Daemon) -> None:
    run_id = daemon.run("nightly", "told")
    daemon.run("hourly", "no disk")
    killed = daemon.begin(RECOVERY_JOB)
    daemon.instance.report_run_failed(killed, "killed")
    daemon.tick()
    found = query(
        daemon.databases.url("control"), "SELECT dataset, severity, detail FROM monitoring.signals ORDER BY dataset"
    )
    assert [(dataset, severity) for dataset, severity, _ in found] == [("hourly", "page"), ("nightly", "page")]
    assert found[0][2]["problem"].endswith("Broken: no disk")
    told = found[1][2]
    assert (told["run_id"], told["problem"]) == (run_id, "billing is down: postgresql://reader:…@billing/db")
    assert "Job nightly fails: its run " in told["summary"]
    assert "secret" not in str(found)
    assert "Jane" not in str(found)


def test_a_failure_that_a_retry_follows_does_not_count(daemon: Daemon) -> None:
    daemon.run("nightly")
    killed = daemon.begin("nightly")
    daemon.instance.report_run_failed(killed, "killed")
    assert daemon.tick() == "0 of 2 jobs fail, as before"
    root = {"dagster/root_run_id": killed.run_id, "dagster/parent_run_id": killed.run_id}
    again = daemon.begin("nightly", parent_run_id=killed.run_id, root_run_id=killed.run_id, tags=root)
    assert daemon.tick() == "0 of 2 jobs fail, as before"
    daemon.instance.report_run_failed(again, "killed")
    assert daemon.tick() == "nightly fails"
    ((problem,),) = query(daemon.databases.url("control"), "SELECT detail ->> 'problem' FROM monitoring.signals")
    assert problem == "killed"


def test_a_failure_of_which_nobody_has_said_yet_whether_it_is_retried_waits(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = daemon.begin("nightly")
    with monkeypatch.context() as untagged:
        untagged.setattr(dg.DagsterInstance, "run_retries_enabled", False)
        daemon.instance.report_run_failed(killed, "killed")
    assert daemon.tick() == "0 of 2 jobs fail, as before"
    daemon.instance.add_run_tags(killed.run_id, {WILL_RETRY_TAG: "false"})
    assert daemon.tick() == "nightly fails"


def test_the_run_that_ended_last_decides_and_not_the_one_that_began_last(daemon: Daemon) -> None:
    long = daemon.begin("nightly", tags={"dagster/max_retries": "0"})
    daemon.run("nightly")
    daemon.instance.report_run_failed(long, "killed")
    assert daemon.tick() == "nightly fails"
    daemon.begin("nightly")
    assert daemon.tick() == "1 of 2 jobs fail, as before"


def test_windows_that_were_refused_are_no_failure_of_the_job(daemon: Daemon) -> None:
    daemon.run("hourly", "extract failed")
    assert daemon.tick() == "hourly fails"
    daemon.run("hourly", "refused", {REFUSED_TAG: "2"})
    assert daemon.tick() == "hourly succeeds again"


def test_a_job_that_is_no_more_fails_no_more(daemon: Daemon) -> None:
    daemon.run("nightly", "no disk")
    daemon.tick()
    del daemon.jobs["nightly"]
    assert daemon.tick() == "nightly succeeds again"


def test_what_could_not_be_written_down_is_seen_again(daemon: Daemon) -> None:
    daemon.run("nightly", "no disk")
    with pytest.raises(Exception, match=r"(?s).*") as failed:
        daemon.tick("postgresql+psycopg://publisher@127.0.0.1:1/none")
    told = f"{failed.value} {failed.value.__cause__}"
    assert "failed runs cannot be made signals: control database cannot be reached" in told
    assert daemon.tick() == "nightly fails"
