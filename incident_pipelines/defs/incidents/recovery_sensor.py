"""The sensor that has incidents recovered: it starts the run that is next, and never two for one incident."""

import os
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.incidents.course import course_of
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.guardrails import MAX_ATTEMPTS, pause_after
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.incidents.recovery_job import INCIDENT_TAG, JOB, recovery_job
from incident_pipelines.defs.refresh.job import UNDER_WAY
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incidents.by_hand import OpenIncident, escalate, open_incidents
from incident_pipelines.stages.incidents.contain import is_still_contained
from incident_pipelines.stages.incidents.exit_criteria import look_at_exit, look_for_cause
from incident_pipelines.stages.recovery.left_to_others import prove_again
from incident_pipelines.stages.recovery.windows_held import goes_first

SENSOR = Actor("sensor", "open_incidents_sensor")
STEP_TAG = "incident/step"


def open_incidents_sensor(
    catalog: Catalog, job: dg.JobDefinition, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Return the sensor for a catalog, running by default."""

    @dg.sensor(
        name=SENSOR.name,
        job=job,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has every open incident scoped, planned, recovered and proved, one run at a time for each.",
    )
    def respond(
        context: dg.SensorEvaluationContext, control: PostgresResource, warehouse: PostgresResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        waiting: list[str] = []
        requests: list[dg.RunRequest] = []
        with control.engine(SENSOR.name) as control_engine, warehouse.engine(SENSOR.name) as warehouse_engine:
            try:
                found = open_incidents(control_engine)
            except IncidentPipelinesError as error:
                raise dg.Failure(f"no incident can be worked on: {error}") from error
            for one in found:
                now, incident = clock(), one.incident
                course = course_of(incident, one.signals, catalog.mode, now)
                try:
                    match course.next:
                        case "run":
                            requests += _run(context, control_engine, warehouse_engine, one, waiting, now)
                        case "look_for_cause":
                            # What was deployed since this process began is only in the files.
                            current = load_catalog(os.environ)
                            look_for_cause(control_engine, warehouse_engine, current, incident.incident_id, SENSOR, now)
                        case "look_at_exit":
                            left = look_at_exit(
                                control_engine, warehouse_engine, catalog, incident.incident_id, SENSOR, now
                            )
                            waiting += [f"{incident.incident_id}: {reason}" for reason in left]
                        case "look_at_others":
                            if not prove_again(control_engine, catalog, incident, SENSOR, now):
                                waiting.append(f"{incident.incident_id}: {course.why}")
                        case "release" if is_still_contained(control_engine, warehouse_engine, incident.incident_id):
                            requests += _run(context, control_engine, warehouse_engine, one, waiting, now)
                        case "release" | "wait":
                            waiting.append(f"{incident.incident_id}: {course.why}")
                except Exception as error:  # whatever it is, the others are looked at all the same
                    context.log.exception("%s: %s", incident.incident_id, error)
                    waiting.append(f"{incident.incident_id}: {type(error).__name__}, see the log of the tick")
        # A tick either starts runs or says why it starts none.
        return requests or dg.SkipReason("; ".join(waiting) or "no open incidents")

    return respond


def _run(
    context: dg.SensorEvaluationContext,
    control: Engine,
    warehouse: Engine,
    one: OpenIncident,
    waiting: list[str],
    now: datetime,
) -> list[dg.RunRequest]:
    """Return the run that is next, if none is under way; give up after too many that failed at one step."""
    incident, runs = one.incident, context.instance
    tags = {INCIDENT_TAG: incident.incident_id}
    if runs.get_runs(dg.RunsFilter(job_name=JOB, tags=tags, statuses=UNDER_WAY), limit=1):
        waiting.append(f"{incident.incident_id}: a run is under way")
        return []
    step = f"{incident.state}.{one.since_entry}"
    tags[STEP_TAG] = step
    failures = dg.RunsFilter(job_name=JOB, tags=tags, statuses=[dg.DagsterRunStatus.FAILURE])
    failed = runs.get_runs(failures, limit=MAX_ATTEMPTS)
    if len(failed) >= MAX_ATTEMPTS:
        told = f"{len(failed)} runs failed while {incident.state.replace('_', ' ')}, the last one {failed[0].run_id}"
        escalate(control, incident.incident_id, incident.state, told, SENSOR, now)
        context.log.error("%s is escalated: %s", incident.incident_id, told)
        waiting.append(f"{incident.incident_id}: escalated, as {told}")
        return []
    earlier = runs.get_runs_count(dg.RunsFilter(job_name=JOB, tags=tags))
    for last in runs.get_run_records(dg.RunsFilter(job_name=JOB, tags=tags), limit=1):
        again_at = _ended(last) + pause_after(earlier)
        if now < again_at:
            waiting.append(f"{incident.incident_id}: runs so far: {earlier}, the next at {again_at:%H:%M:%S} UTC")
            return []
    if first := goes_first(control, warehouse, incident):
        waiting.append(f"{incident.incident_id}: {first}")
        return []
    return [
        dg.RunRequest(
            run_key=f"{incident.incident_id}:{step}:{earlier + 1}",
            run_config={"ops": {"scope": {"config": {"incident_id": incident.incident_id}}}},
            tags={**tags, "incident/severity": incident.severity, "incident/cause": incident.cause},
        )
    ]


def _ended(run: dg.RunRecord) -> datetime:
    if run.end_time is None:
        return run.create_timestamp.astimezone(UTC)
    return datetime.fromtimestamp(run.end_time, UTC)


@dg.definitions
def recovering() -> dg.Definitions:
    """Return job and sensor for the declared catalog."""
    catalog = declared_catalog()
    job = recovery_job(catalog)
    return dg.Definitions(jobs=[job], sensors=[open_incidents_sensor(catalog, job)])
