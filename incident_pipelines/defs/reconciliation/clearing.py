"""One asset for all flows: what has not cleared, by stage."""

import os
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.reconciliation.assets import GROUP
from incident_pipelines.defs.reconciliation.events import clearing_metadata
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.reconciliation.clearing import clearing_balances

CLEARING = dg.AssetKey(["reconciliation", "clearing"])
CRON = "*/15 * * * *"


def clearing_definitions(catalog: Catalog) -> dg.Definitions:
    """Return asset, job and schedule; nothing where no flow is declared."""
    flows = list(catalog.clearings.values())
    if not flows:
        return dg.Definitions()

    @dg.asset(
        key=CLEARING,
        group_name=GROUP,
        description="For each stage of a flow what has not cleared: count, money and age, which all must come to zero.",
        owners=sorted({f"team:{flow.owner}" for flow in flows}),
        kinds={"sql"},
        metadata={"flows": ", ".join(flow.name for flow in flows)},
    )
    def clearing(context: dg.AssetExecutionContext, warehouse: PostgresResource) -> dg.MaterializeResult:
        environment = {**os.environ, "WAREHOUSE_URL": warehouse.url}
        as_of = datetime.now(UTC)
        try:
            balances = [one for flow in flows for one in clearing_balances(catalog, environment, flow, as_of)]
        except IncidentPipelinesError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        for one in balances:
            if one.overdue:
                context.log.warning(f"{one.flow}: {one.overdue} of {one.items} {one.stage.name} are overdue")
        return dg.MaterializeResult(metadata=clearing_metadata(balances, as_of))

    job = dg.define_asset_job("measure_clearing", selection=[CLEARING], description="Measures what has not cleared.")
    schedule = dg.ScheduleDefinition(
        name="measure_clearing_every_15_minutes",
        job=job,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Keeps the clearing view fresh.",
    )
    return dg.Definitions(assets=[clearing], jobs=[job], schedules=[schedule])


@dg.definitions
def clearings() -> dg.Definitions:
    """Return the clearing of the declared catalog."""
    return clearing_definitions(declared_catalog())
