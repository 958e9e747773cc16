"""The recoverability map: refreshed every hour, in the UI with a picture, with signals before anything happens."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.recovery.coverage import Recoverability
from incident_pipelines.core.recovery.declaration import recovery_sources_of
from incident_pipelines.core.recovery.shown import complete_text, day_text, events_text, gone_text, until_text
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.recovery.picture import recoverability_picture
from incident_pipelines.defs.resources import KafkaResource, PostgresResource
from incident_pipelines.defs.specs import landing_spec
from incident_pipelines.stages.recovery.recoverability import (
    RaisedSignals,
    RecoverabilityMap,
    recoverability_map,
    watch_recoverability,
)

GROUP = "recovery"
RECOVERABILITY_MAP = dg.AssetKey(["recovery", "recoverability_map"])
CRON = "35 * * * *"


def recoverability_definitions(catalog: Catalog) -> dg.Definitions:
    """Return asset, job and schedule; nothing where no contract names a recovery source."""
    contracts = [contract for contract in catalog.landed.values() if recovery_sources_of(contract)]
    if not contracts:
        return dg.Definitions()

    @dg.asset(
        key=RECOVERABILITY_MAP,
        group_name=GROUP,
        deps=[landing_spec(contract).key for contract in contracts],
        description="For each dataset and day: which source could replay it today, how much of it and until when, and "
        "what would be gone for good if landing were lost now.",
        owners=sorted({f"team:{contract.owner}" for contract in contracts}),
        kinds={"sql", "kafka"},
        metadata={contract.name: ", ".join(recovery_sources_of(contract)) for contract in contracts},
    )
    def recoverability(
        context: dg.AssetExecutionContext,
        warehouse: PostgresResource,
        control: PostgresResource,
        kafka: KafkaResource,
    ) -> dg.MaterializeResult:
        environment = {
            **os.environ,
            "WAREHOUSE_URL": warehouse.url,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        }
        started = time.monotonic()
        try:
            found = recoverability_map(catalog, environment, datetime.now(UTC), report=context.log.info)
            with control.engine(f"dagster run {context.run_id}") as engine:
                signals = watch_recoverability(catalog, engine, found)
        except IncidentPipelinesError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        for note in found.notes:
            context.log.warning(note)
        return dg.MaterializeResult(metadata=map_metadata(found, signals, time.monotonic() - started))

    job = dg.define_asset_job(
        "map_recoverability", selection=[RECOVERABILITY_MAP], description="Asks every source what it can still replay."
    )
    schedule = dg.ScheduleDefinition(
        name="map_recoverability_every_hour",
        job=job,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Keeps the recoverability map fresh.",
    )
    return dg.Definitions(assets=[recoverability], jobs=[job], schedules=[schedule])


def map_metadata(found: RecoverabilityMap, signals: RaisedSignals, seconds: float) -> dict[str, Any]:
    """Return what is shown of a map; every number becomes a plot."""
    gone = [day.gone_without() for day in found.days]
    metadata: dict[str, Any] = {
        "picture": dg.MetadataValue.md(recoverability_picture(found.days)),
        "map": dg.MetadataValue.md(map_table(found.days)),
        "windows": len(found.days),
        "windows_safe_without_landing": sum(1 for one in gone if one.at_most == 0),
        "windows_unknown": sum(1 for one in gone if one.at_most is None or one.unknown),
        "events_gone_without_landing_at_least": sum(one.at_least for one in gone),
        "events_gone_without_landing_at_most": sum(one.at_most or 0 for one in gone),
        "sources_unknown": len({(c.dataset, c.source) for d in found.days for c in d.coverages if c.replays is None}),
        "signals_raised": len(signals.raised),
        "signals_cleared": len(signals.cleared),
        "as_of": dg.MetadataValue.timestamp(found.as_of),
        "seconds": round(seconds, 3),
    }
    if found.notes:
        metadata["notes"] = "; ".join(found.notes)
    return metadata


def map_table(days: Sequence[Recoverability]) -> str:
    """Return the map as a markdown table: a row for each day, a column for each source."""
    sources = list(dict.fromkeys(one.source for day in days for one in day.coverages))
    lines = [
        f"| dataset | day | {' | '.join(sources)} | without landing |",
        f"|---|---|{'---|' * len(sources)}---|",
    ]
    for day in days:
        cells = [_cell(day, source) for source in sources]
        lines.append(f"| {day.dataset} | {day_text(day)} | {' | '.join(cells)} | {gone_text(day)} |")
    return "\n".join(lines)


def _cell(day: Recoverability, source: str) -> str:
    one = day.of(source)
    if one is None:
        return ""
    if one.replays is None:
        return "unknown"
    if not one.replays:
        return "cannot replay" if one.broken else "nothing"
    return f"{events_text(one)}, {complete_text(one)}, {'' if one.until is None else 'until '}{until_text(one)}"


@dg.definitions
def recovery() -> dg.Definitions:
    """Return the recoverability map of the declared catalog."""
    return recoverability_definitions(declared_catalog())
