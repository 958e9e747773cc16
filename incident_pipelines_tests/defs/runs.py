"""Runs of the shop's assets, in this process or in one that is killed on the way.

As a program: ``python -m incident_pipelines_tests.defs.runs START END [ROOT_RUN_ID]`` runs raw orders over a range of
partitions on the Dagster instance of DAGSTER_HOME, with a run id that it prints first.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines_tests.defs.shop import ORDERS, shop_definitions


def range_tags(start: str, end: str) -> dict[str, str]:
    """Return the tags that make a run one over a range of partitions, as a backfill sets them."""
    return {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def materialized(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str | None = None) -> list[str]:
    """Return the partition of every materialization of an asset, oldest first; those of one run if it is given."""
    records = instance.fetch_materializations(key, limit=5000, ascending=True).records
    return [str(record.partition_key) for record in records if run_id in (None, record.run_id)]


def launch(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    selection: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    root_run_id: str | None = None,
) -> dg.DagsterRun:
    """Run assets here; with a root run, as a retry of it."""
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(selection))
    run = instance.create_run_for_job(
        job_def=job,
        tags=dict(tags),
        root_run_id=root_run_id,
        parent_run_id=root_run_id,
        asset_selection=frozenset(selection),
    )
    print(run.run_id, flush=True)
    execute_run(InMemoryJob(job), run, instance)
    finished = instance.get_run_by_id(run.run_id)
    assert finished is not None
    return finished


if __name__ == "__main__":
    first, last, *root = sys.argv[1:]
    with dg.DagsterInstance.get() as dagster_instance:
        launch(
            dagster_instance,
            shop_definitions(load_catalog()),
            [ORDERS],
            range_tags(first, last),
            root[0] if root else None,
        )
