"""The sensor that makes signals into incidents, and contains each at once; what follows is the business of others."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import Engine

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incidents.contain import contain_incident, release_containment
from incident_pipelines.stages.incidents.containment_course import Containment
from incident_pipelines.stages.incidents.containment_queue import incidents_to_contain, incidents_to_release
from incident_pipelines.stages.incidents.respond import NEW_SIGNALS_SENSOR, Taken, take_signals

Step = Callable[[Engine, Engine, Catalog, Mapping[str, str], str, Actor, datetime], Containment]


def new_signals_sensor(
    catalog: Catalog,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    environment: Mapping[str, str] = os.environ,
) -> dg.SensorDefinition:
    """Return the sensor for a catalog, running by default.

    Args:
        clock: says when incidents are opened.
        environment: looked up when something is contained: addresses of broker and supervisor.
    """

    @dg.sensor(
        name=NEW_SIGNALS_SENSOR.name,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Puts each new signal into one incident, opened or joined, and contains what is not contained.",
    )
    def take(
        context: dg.SensorEvaluationContext, control: PostgresResource, warehouse: PostgresResource
    ) -> dg.SkipReason:
        with control.engine("new_signals_sensor") as engine, warehouse.engine("new_signals_sensor") as warehouse_engine:
            try:
                taken = take_signals(engine, catalog, clock())
                _log(context, taken)
                steps: list[tuple[str, Step]] = []
                if catalog.mode != "observe":
                    steps += [(one, contain_incident) for one in incidents_to_contain(engine)]
            except SourceUnavailable as error:
                raise dg.Failure(f"no incidents can be opened: {error}") from error
            try:
                # What a person has closed is no longer to be contained, whatever the mode is now.
                steps += [(one, release_containment) for one in incidents_to_release(engine, warehouse_engine)]
            except SourceUnavailable as error:  # landers and retention can be put right without a warehouse
                context.log.error("nothing can be let go of: %s", error)
            changed: list[str] = []
            for incident_id, step in steps:
                try:
                    result = step(
                        engine, warehouse_engine, catalog, environment, incident_id, NEW_SIGNALS_SENSOR, clock()
                    )
                except Exception as error:  # whatever it is, one incident does not keep the others
                    context.log.exception("%s is not contained: %s", incident_id, error)
                else:
                    changed += _outcome(context, result, released=step is release_containment)
        told = [_said(taken)] if taken.signals else []
        return dg.SkipReason("; ".join([*told, *changed]) or "no new signals")

    return take


def _log(context: dg.SensorEvaluationContext, taken: Taken) -> None:
    for incident_id in taken.opened:
        context.log.error("opened %s: incident-pipelines incident show %s", incident_id, incident_id)
    for incident_id in taken.reopened:
        context.log.error("%s begins again: what is affected has grown, or is wrong again", incident_id)
    for incident_id in taken.joined:
        context.log.info("signals joined %s", incident_id)


def _said(taken: Taken) -> str:
    told = ", ".join((*(f"{one} opened" for one in taken.opened), *(f"{one} joined" for one in taken.joined)))
    return f"{taken.signals} {'signal' if taken.signals == 1 else 'signals'} taken: {told}"


def _outcome(context: dg.SensorEvaluationContext, result: Containment, *, released: bool) -> list[str]:
    """Log what has changed, and return it in words; an incident that only waits is told once, in its timeline."""
    for told in result.done:
        context.log.info("%s: %s", result.incident_id, told)
    for told in result.failed:
        context.log.error("%s: %s", result.incident_id, told)
    if released:
        return [f"{result.incident_id} released"] if result.done else []
    if result.concluded:
        return [f"{result.incident_id} {result.state}"]
    return [f"{result.incident_id} being contained"] if result.done or result.failed else []


@dg.definitions
def responding() -> dg.Definitions:
    """Return the sensor for the declared catalog."""
    return dg.Definitions(sensors=[new_signals_sensor(declared_catalog())])
