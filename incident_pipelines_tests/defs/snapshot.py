"""What the code location defines, in a form that a person reads in a review.

``python -m incident_pipelines_tests.defs.snapshot`` writes definitions.json afresh.
"""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg

SNAPSHOT = Path(__file__).with_name("definitions.json")


def describe(definitions: dg.Definitions) -> dict[str, Any]:
    """Return assets with partitions, dependencies and checks, jobs and schedules."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {key.to_user_string(): _asset(graph, key) for key in sorted(graph.get_all_asset_keys())},
        "jobs": {
            job.name: {"ops": [node.name for node in job.nodes_in_topological_order], "tags": dict(job.tags)}
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "schedules": {
            schedule.name: {
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "status": schedule.default_status.value,
            }
            for schedule in repository.schedule_defs
        },
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "resources": sorted(name for name in definitions.resources or {}),
    }


def _asset(graph: Any, key: dg.AssetKey) -> dict[str, Any]:
    node = graph.get(key)
    described: dict[str, Any] = {
        "group": node.group_name,
        "kinds": sorted(node.kinds),
        "owners": list(node.owners),
        "partitions": _partitions(node.partitions_def),
        "depends on": {
            parent.to_user_string(): _mapping(node.partition_mappings.get(parent))
            for parent in sorted(node.parent_keys)
        },
    }
    if node.is_external:
        return {**described, "external": True}
    return {
        **described,
        "tags": sorted(tag for tag in node.tags if not tag.startswith("dagster/")),
        "code version": node.code_version,
        "freshness": str(node.freshness_policy.fail_window.to_timedelta()) if node.freshness_policy else None,
        "backfill": "one run" if node.backfill_policy == dg.BackfillPolicy.single_run() else "a run a partition",
        **_columns(node.metadata.get("dagster/column_schema")),
        "checks": sorted(check.name for check in graph.get_check_keys_for_assets({key})),
    }


def _columns(schema: dg.TableSchema | None) -> dict[str, list[str]]:
    return {} if schema is None else {"columns": [column.name for column in schema.columns]}


def _partitions(partitions: dg.PartitionsDefinition[Any] | None) -> str | None:
    if partitions is None:
        return None
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    unit = type(partitions).__name__.removesuffix("PartitionsDefinition").lower()
    start = f"{partitions.start:%Y-%m-%d %H:%M}"
    return f"{unit} from {start} {partitions.timezone}, {partitions.end_offset} that is not over"


def _mapping(mapping: dg.PartitionMapping | None) -> str:
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return f"own windows and {mapping.end_offset} more"
    return "default" if mapping is None else type(mapping).__name__


def text_of(definitions: dg.Definitions) -> str:
    """Return the description as it is committed."""
    return json.dumps(describe(definitions), indent=1, sort_keys=False) + "\n"


if __name__ == "__main__":
    for variable in ("INCIDENT_PIPELINES_START", "INCIDENT_PIPELINES_CATALOG", "INCIDENT_PIPELINES_SQL"):
        os.environ.pop(variable, None)
    from incident_pipelines.definitions import defs

    SNAPSHOT.write_text(text_of(defs), encoding="utf-8")
