"""The sensor that makes, writes and sends the reports that incidents owe."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.reports.publish_reports import publish_reports


def reports_sensor(
    catalog: Catalog,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    environment: Mapping[str, str] = os.environ,
) -> dg.SensorDefinition:
    """Return the sensor for a catalog, running by default.

    Args:
        clock: says which reports are due.
        environment: looked up when reports are sent: folder, templates and addresses.
    """

    @dg.sensor(
        name="reports_sensor",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the updates, statements and notes that open incidents owe, writes and sends them.",
    )
    def report(context: dg.SensorEvaluationContext, control: PostgresResource) -> dg.SkipReason:
        with control.engine("reports_sensor") as engine:
            try:
                told = publish_reports(engine, catalog, environment, clock())
            except SourceUnavailable as error:
                raise dg.Failure(f"no reports can be made: {error}") from error
        for line in told:
            (context.log.info if line.endswith(" made") else context.log.error)(line)
        return dg.SkipReason("; ".join(told) or "no report is due")

    return report


@dg.definitions
def reporting() -> dg.Definitions:
    """Return the sensor for the declared catalog."""
    return dg.Definitions(sensors=[reports_sensor(declared_catalog())])
