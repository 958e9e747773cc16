"""Results of stages → events that Dagster stores; every number becomes a plot over partitions."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from incident_pipelines.core.catalog import END_OF_TIME, Catalog
from incident_pipelines.core.contracts.model import Contract
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.partitions import partition_key
from incident_pipelines.defs.specs import landing_key, published_key
from incident_pipelines.stages.publication.figures import LandingFigures, RuleVerdict
from incident_pipelines.stages.publication.publish import PublishedWindow

_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}


def materialization(
    catalog: Catalog, contract: Contract, published: PublishedWindow, progress: str = ""
) -> dg.AssetMaterialization:
    """Return the event for a window that was published.

    Args:
        progress: what stands before the numbers in the run's log, such as "window 12 of 168".
    """
    numbers = f"{published.rows} rows, {published.changed_rows} changed"
    window = "" if published.window == catalog.whole else f" {published.window}"
    return dg.AssetMaterialization(
        published_key(contract),
        partition=partition_key(catalog, contract, published.window),
        description=f"{progress or 'window'}{window}: {numbers}",
        metadata=_published(published),
    )


def materialize_result(contract: Contract, published: PublishedWindow) -> dg.MaterializeResult:
    """Return the result of an asset without partitions."""
    return dg.MaterializeResult(asset_key=published_key(contract), metadata=_published(published))


def check_result(contract: Contract, verdict: RuleVerdict) -> dg.AssetCheckResult:
    """Return how a rule stands, as the result of a check in a run that was asked for it."""
    return dg.AssetCheckResult(
        asset_key=published_key(contract),
        check_name=verdict.rule,
        passed=verdict.passed,
        severity=_SEVERITIES[verdict.severity],
        description=_statement(verdict),
        metadata=_verdict(verdict),
    )


def check_evaluation(contract: Contract, verdict: RuleVerdict) -> dg.AssetCheckEvaluation:
    """Return how a rule stands, as an event that any run may log."""
    return dg.AssetCheckEvaluation(
        asset_key=published_key(contract),
        check_name=verdict.rule,
        passed=verdict.passed,
        severity=_SEVERITIES[verdict.severity],
        description=_statement(verdict),
        metadata=_verdict(verdict),
    )


def observation(figures: LandingFigures) -> dg.AssetObservation:
    """Return the event for what has landed of a dataset."""
    metadata: dict[str, Any] = {
        "rows": figures.rows,
        "dead_letters": figures.dead_letters,
        "origins": figures.origins,
    }
    if figures.lag is not None:
        metadata["lag"] = figures.lag
    if figures.last_landed_at is not None:
        metadata["last_landed_at"] = dg.MetadataValue.timestamp(figures.last_landed_at)
    if figures.partitions:
        metadata["offsets"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "topic": status.topic,
                        "partition": status.partition,
                        "origin": status.origin_id,
                        "next": status.next,
                        "lag": "unknown" if status.lag is None else str(status.lag),
                        "state": status.stopped_reason or status.state,
                    }
                )
                for status in figures.partitions
            ]
        )
    return dg.AssetObservation(landing_key(figures.dataset), metadata=metadata)


def _published(published: PublishedWindow) -> dict[str, Any]:
    failed = [result.rule for result in published.results if not result.passed]
    offsets = [
        dg.TableRecord(
            {
                "origin": taken.origin_id,
                "partition": taken.partition,
                "first position": taken.first_position,
                "last position": taken.last_position,
            }
        )
        for taken in published.offsets
    ]
    metadata: dict[str, Any] = {
        "rows": published.rows,
        "changed_rows": published.changed_rows,
        "duplicates": published.duplicates,
        "dead_letters": published.dead_letters,
        "quarantined": published.quarantined,
        "rules_failed": len(failed),
        "seconds": round(published.seconds, 4),
        "version": published.version,
        **_window(published.window),
    }
    if failed:
        metadata["failed_rules"] = ", ".join(failed)
    if offsets:
        metadata["offsets"] = dg.MetadataValue.table(offsets)
    return metadata


def _window(window: TimeWindow) -> Mapping[str, dg.MetadataValue[Any]]:
    found: dict[str, dg.MetadataValue[Any]] = {"window_start": dg.MetadataValue.timestamp(window.start)}
    if window.end != END_OF_TIME:
        found["window_end"] = dg.MetadataValue.timestamp(window.end)
    return found


def _verdict(verdict: RuleVerdict) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "windows": verdict.windows,
        "windows_failed": verdict.windows_failed,
        "unexpected_rows": verdict.unexpected,
        "rows": verdict.rows,
        "worst_share": verdict.worst_share,
        "checked_at": dg.MetadataValue.timestamp(verdict.checked_at),
    }
    if verdict.worst_window is not None:
        metadata["worst_window"] = dg.MetadataValue.timestamp(verdict.worst_window)
    return metadata


def _statement(verdict: RuleVerdict) -> str:
    if verdict.passed:
        return f"Holds in all of {verdict.windows} windows; {verdict.unexpected} unexpected rows within its share."
    return f"Fails in {verdict.windows_failed} of {verdict.windows} windows."
