"""Two assets for each reconciliation, its hours and everything, with their checks."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from incident_pipelines.adapters.stores.differences import Mode
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import CheckError, IncidentPipelinesError
from incident_pipelines.core.reconciliation.catalog import tables_of
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE, Reconciliation, Side
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.publishing import MAX_RETRIES, RETRY_SECONDS
from incident_pipelines.defs.reconciliation.events import GAP_CHECK, gap_check, join_check, reconciled_metadata
from incident_pipelines.defs.reporting import WindowReports
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.reconciliation.difference_figures import difference_figures, last_run
from incident_pipelines.stages.reconciliation.reconcile import Reconciled, reconcile

GROUP = "reconciliation"
SAMPLES = 20


def hourly_key(declared: Reconciliation) -> dg.AssetKey:
    """Return the key of the asset whose partitions are the hours of a reconciliation."""
    return dg.AssetKey(["reconciliation", declared.name])


def full_key(declared: Reconciliation) -> dg.AssetKey:
    """Return the key of the asset that looks at everything."""
    return dg.AssetKey(["reconciliation", f"{declared.name}_full"])


def hours_of(catalog: Catalog) -> dg.HourlyPartitionsDefinition:
    """Return the hours of a reconciliation: those that are over."""
    return dg.HourlyPartitionsDefinition(start_date=catalog.start)


def reconciliation_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """Return the assets: of hours where a time column is declared, and of everything."""
    assets: list[dg.AssetsDefinition] = []
    for declared in catalog.reconciliations.values():
        if declared.time is not None:
            assets.append(_asset(catalog, declared, "hourly"))
        assets.append(_asset(catalog, declared, "full"))
    return assets


def _asset(catalog: Catalog, declared: Reconciliation, mode: Mode) -> dg.AssetsDefinition:
    key = hourly_key(declared) if mode == "hourly" else full_key(declared)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies and skippable assets are marked so

        @dg.multi_asset(
            name=f"reconciliation__{key.path[-1]}",
            specs=[_spec(catalog, declared, key, mode)],
            check_specs=_check_specs(declared, key),
            can_subset=True,  # checks can be run without reading anything but the ledger
            backfill_policy=dg.BackfillPolicy.single_run() if mode == "hourly" else None,
            # For a run that somebody else owns and a database that is away.
            retry_policy=dg.RetryPolicy(max_retries=MAX_RETRIES, delay=RETRY_SECONDS),
        )
        def reconcile_sides(
            context: dg.AssetExecutionContext, warehouse: PostgresResource, control: PostgresResource
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            # What broke says nothing about the data: the run fails, its checks are not evaluated.
            try:
                with control.engine(f"dagster run {context.run_id}") as engine:
                    environment = {**os.environ, "WAREHOUSE_URL": warehouse.url}
                    if context.selected_asset_keys:
                        yield from _reconcile(catalog, declared, key, mode, context, engine, environment)
                    yield from _checks(declared, key, mode, context, engine)
            except IncidentPipelinesError as error:
                raise dg.Failure(str(error), allow_retries=context.retry_number < MAX_RETRIES) from error

    return reconcile_sides


def _reconcile(
    catalog: Catalog,
    declared: Reconciliation,
    key: dg.AssetKey,
    mode: Mode,
    context: dg.AssetExecutionContext,
    control: Engine,
    environment: Mapping[str, str],
) -> Iterator[dg.MaterializeResult]:
    """Reconcile what was asked for; each hour is reported when it is done."""

    def look(hour: TimeWindow | None) -> tuple[Reconciled, dict[str, Any]]:
        as_of = datetime.now(UTC)
        run = reconcile(
            catalog,
            control,
            declared.name,
            hour,
            as_of=as_of,
            owner=f"dagster run {context.run_id}",
            environment=environment,
            report=context.log.info,
        )
        figures = difference_figures(control, catalog, declared, as_of, samples=SAMPLES)
        (context.log.info if run.verdict == "ok" else context.log.warning)(f"{run.window}: {run.statement}")
        return run, reconciled_metadata(run, figures)

    if mode == "full":
        yield dg.MaterializeResult(asset_key=key, metadata=look(None)[1])
        return
    partitions = hours_of(catalog)
    with WindowReports(context.op_execution_context) as reports:
        for partition in context.partition_keys:
            hour = TimeWindow.hour_of(datetime.strptime(partition, partitions.fmt).replace(tzinfo=UTC))
            run, metadata = look(hour)
            reports.add(dg.AssetMaterialization(key, partition=partition, description=run.statement, metadata=metadata))


def _checks(
    declared: Reconciliation, key: dg.AssetKey, mode: Mode, context: dg.AssetExecutionContext, control: Engine
) -> Iterator[dg.AssetCheckResult]:
    asked = {check.name for check in context.selected_asset_check_keys}
    if not asked:
        return
    run = last_run(control, declared.name, mode)
    if run is None:
        raise CheckError(f"{declared.name} has not been reconciled yet ({mode})")
    if GAP_CHECK in asked:
        yield gap_check(key, declared, run)
    if declared.join_rate and declared.join_rate.name in asked:
        yield join_check(key, declared.join_rate, run)


def _spec(catalog: Catalog, declared: Reconciliation, key: dg.AssetKey, mode: Mode) -> dg.AssetSpec:
    looks_at = "Each hour, what changed in it, and every open difference" if mode == "hourly" else "Everything"
    bounds = declared.thresholds.gap_rate
    return dg.AssetSpec(
        key,
        deps=sorted({*_deps(catalog, declared.source), *_deps(catalog, declared.target)}),
        skippable=mode == "hourly",
        group_name=GROUP,
        description=f"{declared.description} {looks_at}; differences stand in reconciliation.differences.".strip(),
        owners=[f"team:{declared.owner}"],
        kinds={"sql"},
        metadata={
            "source": f"{declared.source.source}: {declared.source.table or declared.source.sql}",
            "target": f"{declared.target.source}: {declared.target.table or declared.target.sql}",
            "key": ", ".join(column.name for column in declared.key),
            "columns": ", ".join(column.name for column in declared.columns),
            "grace_seconds": int(declared.grace.total_seconds()),
            **({"gap_rate_warn": float(bounds.warn)} if bounds.warn is not None else {}),
            **({"gap_rate_error": float(bounds.error)} if bounds.error is not None else {}),
        },
        partitions_def=hours_of(catalog) if mode == "hourly" else None,
    )


def _check_specs(declared: Reconciliation, key: dg.AssetKey) -> Sequence[dg.AssetCheckSpec]:
    specs = [
        dg.AssetCheckSpec(
            GAP_CHECK,
            asset=key,
            description="Differences that nothing explains, as a share of the rows looked at, are within the bounds.",
        )
    ]
    if declared.join_rate:
        specs.append(dg.AssetCheckSpec(declared.join_rate.name, asset=key, description=declared.join_rate.description))
    return specs


def _deps(catalog: Catalog, side: Side) -> list[dg.AssetKey]:
    """The tables of a side, as the graph knows them: ours by stage and dataset, others by source and table."""
    known = {*(("raw", name) for name in catalog.landed), *(("marts", name) for name in catalog.marts)}
    keys: list[dg.AssetKey] = []
    for schema, table in tables_of(side, catalog.reconciliation_sql):
        ours = side.source == WAREHOUSE and (schema, table) in known
        keys.append(dg.AssetKey([schema, table] if ours else [side.source, table]))
    return keys


@dg.definitions
def reconciliations() -> dg.Definitions:
    """Return the reconciliations of the declared catalog."""
    return dg.Definitions(assets=reconciliation_assets(declared_catalog()))
