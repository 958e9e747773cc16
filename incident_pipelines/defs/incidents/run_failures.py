"""The sensor that makes a job whose runs fail a signal."""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.defs.incidents.recovery_job import JOB as RECOVERY_JOB
from incident_pipelines.defs.refresh.job import REFUSED_TAG
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.monitoring.run_failures import EndedRun, watch_runs

WILL_RETRY_TAG = "dagster/will_retry"
LATEST = 10
"""Runs of a job that are looked at: the last one that has ended for good is among them."""


def run_failures_sensor() -> dg.SensorDefinition:
    """Return the sensor, running by default."""

    # Which run a job has ended with is looked at, and not each event: one that could not be written down when it came
    # would be lost.
    @dg.sensor(
        name="run_failures_sensor",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Raises a signal for each job while its last run has failed.",
    )
    def watch(context: dg.SensorEvaluationContext, control: PostgresResource) -> dg.SkipReason:
        assert context.repository_def is not None
        last = {job: last_run(context.instance, job) for job in watched_jobs(context.repository_def.job_names)}
        with control.engine("run_failures_sensor") as engine:
            try:
                watched = watch_runs(engine, last)
            except SourceUnavailable as error:
                raise dg.Failure(f"failed runs cannot be made signals: {error}") from error
        told = [*(f"{job} fails" for job in watched.raised), *(f"{job} succeeds again" for job in watched.cleared)]
        failing = sum(1 for run in last.values() if run is not None and run.problem is not None)
        return dg.SkipReason("; ".join(told) or f"{failing} of {len(last)} jobs fail, as before")

    return watch


def watched_jobs(names: Iterable[str]) -> list[str]:
    """Return the jobs whose failures are signals.

    A recovery has attempts and an escalation of its own. What a person materializes by hand is no job that runs again.
    """
    return sorted(name for name in names if name != RECOVERY_JOB and not name.startswith("__"))


def last_run(instance: dg.DagsterInstance, job: str) -> EndedRun | None:
    """Return how the last run of a job has ended; None where none has. One that is tried again has not."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job, statuses=ended), limit=LATEST, order_by="end_time", ascending=False
    )
    for record in records:
        run = record.dagster_run
        if record.end_time is None or (run.is_failure and not _is_final(instance, run)):
            continue
        # Windows that were refused have signals of their own; the job itself has done all it could.
        failed = run.is_failure and REFUSED_TAG not in run.tags
        at = datetime.fromtimestamp(record.end_time, UTC)
        return EndedRun(run.run_id, at, _problem(instance, run.run_id) if failed else None)
    return None


def _is_final(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Where runs are retried, every failed one is tagged a moment later with whether it will be."""
    return run.tags.get(WILL_RETRY_TAG, str(instance.run_retries_enabled).lower()) != "true"


def _problem(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return why a run failed: what the step says that failed first, or what became of the run."""
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run_id, of_type=kind, limit=1).records:
            event = record.event_log_entry.get_dagster_event()
            if kind == dg.DagsterEventType.RUN_FAILURE:
                return event.message or "its process ended"
            failure = event.step_failure_data
            if failure.user_failure_data is not None and failure.user_failure_data.description:
                return failure.user_failure_data.description
            error = failure.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None and error.message:
                return error.message
    return "nothing says why"


@dg.definitions
def run_failures() -> dg.Definitions:
    """Return the sensor."""
    return dg.Definitions(sensors=[run_failures_sensor()])
