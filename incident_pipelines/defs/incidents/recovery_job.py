"""The job that brings one incident to its end; who looks at its runs sees scope, plan, replay, publishing and proof."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import (
    IncidentConflict,
    IncidentPipelinesError,
    RecoveryOwned,
    RecoveryStopped,
    WindowOwned,
)
from incident_pipelines.core.incidents.incident import Actor, State
from incident_pipelines.defs.events import materialization
from incident_pipelines.defs.reporting import WindowReports
from incident_pipelines.defs.resources import PostgresResource, resources_for
from incident_pipelines.stages.publication.publish import PublishedWindow, contract_of
from incident_pipelines.stages.recovery.recover import (
    plan_incident,
    recover_incident,
    release_incident,
    scope_incident,
    verify_incident,
)
from incident_pipelines.stages.recovery.work import Work, alone

INCIDENT_TAG = "incident/id"
JOB = "recover_incident"

MAX_ROUNDS = 4
"""Recovery and verification by turns, until it is proved, given up, or somebody has to be waited for."""


class IncidentToRecover(dg.Config):
    """Which incident a run works on.

    Args:
        incident_id: like INC-7.
    """

    incident_id: str


def recovery_job(catalog: Catalog) -> dg.JobDefinition:
    """Return the job for a catalog."""

    @dg.op(description="Find out exactly what is missing or wrong, and what is made from it.")
    def scope(
        context: dg.OpExecutionContext,
        config: IncidentToRecover,
        warehouse: PostgresResource,
        control: PostgresResource,
    ) -> str:
        with _work(context, catalog, warehouse, control, config.incident_id) as work:
            _step(context, work, scope_incident)
        return config.incident_id

    @dg.op(description="Choose the sources that still have it. This changes nothing.")
    def plan(
        context: dg.OpExecutionContext, warehouse: PostgresResource, control: PostgresResource, incident_id: str
    ) -> str:
        with _work(context, catalog, warehouse, control, incident_id) as work:
            _step(context, work, plan_incident)
        return incident_id

    @dg.op(description="Replay what is missing, publish what depends on it, and prove it; the next source if need be.")
    def recover_and_verify(
        context: dg.OpExecutionContext, warehouse: PostgresResource, control: PostgresResource, incident_id: str
    ) -> str:
        with _work(context, catalog, warehouse, control, incident_id) as work:
            for _ in range(MAX_ROUNDS):
                state = _step(context, work, recover_incident)
                if state == "verifying":
                    state = _step(context, work, verify_incident)
                if state not in ("planned", "recovering"):
                    break
        return incident_id

    @dg.op(description="Undo the containment of what is proved right again.")
    def release(
        context: dg.OpExecutionContext, warehouse: PostgresResource, control: PostgresResource, incident_id: str
    ) -> None:
        with _work(context, catalog, warehouse, control, incident_id) as work:
            _step(context, work, release_incident)

    @dg.job(
        name=JOB,
        description="Scopes, plans, recovers and proves one incident. A sensor starts it; it may be started again.",
        tags={"dagster/max_retries": "0"},  # the sensor starts it again, and counts how often
        executor_def=dg.in_process_executor,
        resource_defs={**resources_for(catalog), "io_manager": dg.mem_io_manager},
    )
    def recover_incident_job() -> None:
        release(recover_and_verify(plan(scope())))

    return recover_incident_job


def _step(context: dg.OpExecutionContext, work: Work, step: Callable[[Work], State]) -> State | None:
    """Take a step, alone, and return the incident's state; None where it waits for somebody else."""
    try:
        with alone(work):
            state = step(work)
    except (RecoveryOwned, RecoveryStopped, WindowOwned, IncidentConflict) as error:
        # Nothing is wrong with the run: somebody else goes first, or a person has spoken.
        context.log.warning(str(error))
        return None
    except IncidentPipelinesError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(f"{work.incident_id} is {state.replace('_', ' ')}")
    return state


@contextmanager
def _work(
    context: dg.OpExecutionContext,
    catalog: Catalog,
    warehouse: PostgresResource,
    control: PostgresResource,
    incident_id: str,
) -> Iterator[Work]:
    owner = f"{incident_id} dagster run {context.run_id}"
    if INCIDENT_TAG not in context.run.tags:  # a person started it: sensor and UI find it all the same
        context.instance.add_run_tags(context.run_id, {INCIDENT_TAG: incident_id})
    with (
        warehouse.engine(owner) as warehouse_engine,
        control.engine(owner) as control_engine,
        WindowReports(context) as reports,
    ):

        def published(window: PublishedWindow, progress: str) -> None:
            reports.add(materialization(catalog, contract_of(catalog, window.dataset), window, progress))

        yield Work(
            control_engine,
            warehouse_engine,
            catalog,
            os.environ,
            incident_id,
            Actor("run", context.run_id),
            owner,
            report=context.log.info,
            published=published,
        )
