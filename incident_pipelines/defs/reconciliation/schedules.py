"""When each reconciliation runs: every hour, once its rows are older than the grace, and every night."""

from datetime import UTC, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.declaration import Reconciliation
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.reconciliation.assets import full_key, hourly_key, hours_of


def reconciliation_schedules(catalog: Catalog) -> dg.Definitions:
    """Return jobs and schedules of all reconciliations, running by default."""
    jobs: list[UnresolvedAssetJobDefinition] = []
    schedules: list[dg.ScheduleDefinition] = []
    for declared in catalog.reconciliations.values():
        if declared.time is not None:
            job = dg.define_asset_job(
                f"reconcile_{declared.name}",
                selection=[hourly_key(declared)],
                partitions_def=hours_of(catalog),
                description=f"Reconciles hours of {declared.name}, and again what is open.",
            )
            jobs.append(job)
            schedules.append(_every_hour(catalog, declared, job))
        job = dg.define_asset_job(
            f"reconcile_{declared.name}_full",
            selection=[full_key(declared)],
            description=f"Reconciles all of {declared.name}.",
        )
        jobs.append(job)
        hour, minute = declared.nightly.at.split(":")
        schedules.append(
            dg.ScheduleDefinition(
                name=f"reconcile_{declared.name}_every_night",
                job=job,
                cron_schedule=f"{int(minute)} {int(hour)} * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description=f"Reconciles all of {declared.name}.",
            )
        )
    return dg.Definitions(jobs=jobs, schedules=schedules)


def _every_hour(catalog: Catalog, declared: Reconciliation, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"reconcile_{declared.name}_every_hour",
        job=job,
        cron_schedule=f"{declared.hourly.minute} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Reconciles the last hour of {declared.name} whose rows are all older than the grace.",
    )
    def every_hour(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        settled = context.scheduled_execution_time.astimezone(UTC) - max(declared.grace, timedelta(0))
        hour = TimeWindow.hour_of(settled - HOUR)
        if hour.start < catalog.start:
            return dg.SkipReason(f"{hour} lies before the first partition")
        key = hour.start.strftime(hours_of(catalog).fmt)
        return dg.RunRequest(run_key=f"{declared.name}:{key}", partition_key=key)

    return every_hour


@dg.definitions
def reconciling() -> dg.Definitions:
    """Return jobs and schedules for the declared catalog."""
    return reconciliation_schedules(declared_catalog())
