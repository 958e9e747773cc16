"""The sensor that makes signals into incidents; what is done about them is the business of others."""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.respond import NEW_SIGNALS_SENSOR, take_signals


def new_signals_sensor(
    catalog: Catalog, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dg.SensorDefinition:
    """Return the sensor for a catalog, running by default.

    Args:
        clock: says when incidents are opened.
    """

    @dg.sensor(
        name=NEW_SIGNALS_SENSOR.name,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Puts each new signal into one incident, opened or joined.",
    )
    def take(context: dg.SensorEvaluationContext, control: PostgresResource) -> dg.SkipReason:
        with control.engine("new_signals_sensor") as engine:
            try:
                taken = take_signals(engine, catalog, clock())
            except SourceUnavailable as error:
                raise dg.Failure(f"no incidents can be opened: {error}") from error
        for incident_id in taken.opened:
            context.log.error("opened %s: incident-pipelines incident show %s", incident_id, incident_id)
        for incident_id in taken.reopened:
            context.log.error("%s begins again: what is affected has grown, or is wrong again", incident_id)
        for incident_id in taken.joined:
            context.log.info("signals joined %s", incident_id)
        if not taken.signals:
            return dg.SkipReason("no new signals")
        told = ", ".join((*(f"{one} opened" for one in taken.opened), *(f"{one} joined" for one in taken.joined)))
        return dg.SkipReason(f"{taken.signals} {'signal' if taken.signals == 1 else 'signals'} taken: {told}")

    return take


@dg.definitions
def responding() -> dg.Definitions:
    """Return the sensor for the declared catalog."""
    return dg.Definitions(sensors=[new_signals_sensor(declared_catalog())])
