"""The job that looks every hour at what was recovered in the last day."""

import os
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.resources import PostgresResource, resources_for
from incident_pipelines.stages.incidents.closer_watch import watch_recovered


def closer_watch_job(catalog: Catalog) -> dg.JobDefinition:
    """Return the job for a catalog."""

    @dg.op(description="Count the scope of each recovery of the last 24 hours again.")
    def count_again(context: dg.OpExecutionContext, control: PostgresResource) -> None:
        with control.engine(f"closer watch run {context.run_id}") as engine:
            try:
                told = watch_recovered(engine, catalog, os.environ, datetime.now(UTC))
            except IncidentPipelinesError as error:
                raise dg.Failure(f"what was recovered could not be counted: {error}") from error
        for line in told or ("nothing was recovered in the last 24 hours",):
            context.log.info(line)

    @dg.job(
        name="watch_recovered",
        description="Counts what was recovered in the last day again, every hour.",
        executor_def=dg.in_process_executor,
        resource_defs=resources_for(catalog),
    )
    def watch_recovered_job() -> None:
        count_again()

    return watch_recovered_job


@dg.definitions
def closer_watch() -> dg.Definitions:
    """Return job and schedule for the declared catalog."""
    job = closer_watch_job(declared_catalog())
    schedule = dg.ScheduleDefinition(
        name="watch_recovered_every_hour",
        job=job,
        cron_schedule="20 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="What came back has to stay.",
    )
    return dg.Definitions(jobs=[job], schedules=[schedule])
