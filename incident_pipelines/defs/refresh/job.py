"""The job that keeps every window fresh, once a minute: all levels in one run, through the code that backfills use."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract, RowsContract, TableSource
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.publication import window_rules
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.events import check_evaluation, materialization, observation
from incident_pipelines.defs.refresh.old_runs import REFRESH_TAGS, prune_old_runs
from incident_pipelines.defs.reporting import WindowReports
from incident_pipelines.defs.resources import KafkaResource, PostgresResource, SourcesResource, resources_for
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.landing.state import landing_status
from incident_pipelines.stages.publication.figures import landing_figures, rule_verdicts
from incident_pipelines.stages.publication.publish import PublishedWindow, contract_of
from incident_pipelines.stages.publication.refresh import Failed, Refused, Skipped, refresh

DATASETS_AT_ONCE = 3
"""While Python judges and reports a window of one dataset, the database builds those of others."""

REFUSED_TAG = "incident_pipelines/refused"
"""Of a run that failed by nothing but windows that broke their rules."""

Problems = dict[str, list[str]]
"""What went wrong, in words: `broken` is the pipeline, `refused` the data."""

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def refresh_job(catalog: Catalog) -> dg.JobDefinition:
    """Return the job. What goes wrong with one dataset is carried to the end and does not stop the others."""

    @dg.op(description="Append rows of the source tables that have changed to the landing log.")
    def extract_changed_rows(
        context: dg.OpExecutionContext, warehouse: PostgresResource, sources: SourcesResource
    ) -> Problems:
        problems: Problems = {"broken": [], "refused": []}
        with warehouse.engine(_owner(context)) as engine:
            for contract in catalog.landed.values():
                if not (isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource)):
                    continue
                try:
                    with sources.engine(contract.origin.source) as source:
                        extracted = extract_changes(source, engine, catalog, contract, now=datetime.now(UTC))
                except IncidentPipelinesError as error:
                    context.log.error(f"{contract.name} was not extracted: {error}")
                    problems["broken"].append(f"{contract.name} was not extracted: {error}")
                else:
                    context.log.info(f"{contract.name}: {extracted.appended} of {extracted.read} rows were new")
        return problems

    @dg.op(description="Publish every stale window, raw before marts; a window that somebody owns stays stale.")
    def publish_stale_windows(
        context: dg.OpExecutionContext, warehouse: PostgresResource, problems: Problems
    ) -> Problems:
        touched: dict[str, Contract] = {}
        broken, refused = list(problems["broken"]), list(problems["refused"])
        with (
            _told(),
            warehouse.engine(_owner(context)) as engine,
            # A run that is stopped reports first, then waits for what is under way.
            closing(refresh(engine, catalog, owner=_owner(context), datasets_at_once=DATASETS_AT_ONCE)) as outcomes,
            WindowReports(context) as reports,
        ):
            for outcome in outcomes:
                contract = contract_of(catalog, outcome.dataset)
                match outcome:
                    case PublishedWindow():
                        touched[outcome.dataset] = contract
                        reports.add(materialization(catalog, contract, outcome))
                    case Skipped():
                        context.log.info(f"{outcome.dataset} {outcome.window} stays stale: {outcome.message}")
                    case Refused():
                        touched[outcome.dataset] = contract
                        refused.append(outcome.message)
                    case Failed():
                        broken.append(f"{outcome.dataset} {outcome.window} could not be published: {outcome.message}")
            for dataset, contract in touched.items():
                for verdict in rule_verdicts(engine, dataset, {rule.name for rule in window_rules(contract)}):
                    # log_event takes check evaluations; only its type does not say so.
                    context.log_event(check_evaluation(contract, verdict))  # pyright: ignore[reportArgumentType]
        return {"broken": broken, "refused": refused}

    @dg.op(description="Note how far landing is: rows, dead letters, next offsets, lag.")
    def observe_landing(
        context: dg.OpExecutionContext, warehouse: PostgresResource, kafka: KafkaResource, problems: Problems
    ) -> Problems:
        with _told(), warehouse.engine(_owner(context)) as engine:
            partitions = landing_status(
                {"WAREHOUSE_URL": warehouse.url, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
            )
            for figures in landing_figures(engine, catalog, partitions):
                context.log_event(observation(figures))
        return problems

    @dg.op(description="Delete old runs of this job that hold nothing which is the latest.")
    def prune_runs(context: dg.OpExecutionContext, problems: Problems) -> Problems:
        pruned = prune_old_runs(context.instance, datetime.now(UTC))
        context.log.info(f"old runs: {pruned.deleted} deleted, {pruned.kept} stay")
        return problems

    @dg.op(description="Fail if something went wrong above; what could be done has been done.")
    def report_problems(context: dg.OpExecutionContext, problems: Problems) -> None:
        told = [*problems["broken"], *problems["refused"]]
        if told and not problems["broken"]:
            context.instance.add_run_tags(context.run_id, {REFUSED_TAG: str(len(told))})
        if told:
            raise dg.Failure("; ".join(told), metadata={"problems": told}, allow_retries=False)

    @dg.job(
        name="refresh_windows",
        description="Extracts changed rows, publishes stale windows, notes how far landing is. Runs every minute.",
        tags={**REFRESH_TAGS, "dagster/max_retries": "0"},  # the next minute is the retry
        executor_def=dg.in_process_executor,
        resource_defs={**resources_for(catalog), "io_manager": dg.mem_io_manager},
    )
    def refresh_windows() -> None:
        report_problems(prune_runs(observe_landing(publish_stale_windows(extract_changed_rows()))))

    return refresh_windows


def refresh_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule; a tick that finds the last run still under way is skipped."""

    @dg.schedule(
        name="refresh_every_minute",
        job=job,
        cron_schedule="* * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Keeps raw and marts fresh.",
    )
    def refresh_every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        under_way = context.instance.get_runs(dg.RunsFilter(job_name=job.name, statuses=UNDER_WAY), limit=1)
        if under_way:
            return dg.SkipReason(f"run {under_way[0].run_id} is {under_way[0].status.value.lower()}")
        return dg.RunRequest()

    return refresh_every_minute


@dg.definitions
def refreshing() -> dg.Definitions:
    """Return job and schedule for the declared catalog."""
    job = refresh_job(declared_catalog())
    return dg.Definitions(jobs=[job], schedules=[refresh_schedule(job)])


def _owner(context: dg.OpExecutionContext) -> str:
    return f"refresh run {context.run_id}"


@contextmanager
def _told() -> Iterator[None]:
    """Fail with the message alone where it was written for a reader."""
    try:
        yield
    except IncidentPipelinesError as error:
        raise dg.Failure(str(error)) from error
