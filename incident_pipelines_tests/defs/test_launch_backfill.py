"""Backfills through the mutation that the UI's dialog sends; the daemon's step is taken here instead of every 30 s."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.schema import create_schema

from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.dagster_processes import LAUNCH_BACKFILL, backfill_parameters
from incident_pipelines_tests.defs.runs import environment, materialized
from incident_pipelines_tests.defs.shop import DAILY_ORDERS, ORDERS, VISITS, Shop, open_shop
from incident_pipelines_tests.landing_tools import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

TWO_DAYS = [f"2026-03-{day:02}-{hour:02}:00" for day in (1, 2) for hour in range(24)]


@pytest.fixture
def shop(tmp_path: Path, own_databases: Databases) -> Iterator[Shop]:
    shop = open_shop(tmp_path, own_databases)
    with environment({**shop.variables, "DAGSTER_DISABLE_TELEMETRY": "1"}):
        yield shop


@pytest.fixture
def workspace(shop: Shop, tmp_path: Path) -> Iterator[WorkspaceProcessContext]:
    home = tmp_path / "dagster"
    home.mkdir()
    # No daemon here that would take runs off a queue.
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n",
        encoding="utf-8",
    )
    target = ModuleTarget("incident_pipelines.definitions", None, None, "incident_pipelines")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        yield workspace


def _backfill(
    workspace: WorkspaceProcessContext, keys: Sequence[dg.AssetKey], partitions: Sequence[str]
) -> list[dg.DagsterRun]:
    """Launch a backfill, take the daemon's steps until it is over, and return its runs."""
    instance = workspace.instance
    answer = create_schema().execute(
        LAUNCH_BACKFILL,
        variables=backfill_parameters([key.path for key in keys], partitions),
        context=workspace.create_request_context(),
    )
    assert not answer.errors, answer.errors
    assert answer.data
    assert answer.data["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer.data
    backfill_id = answer.data["launchPartitionBackfill"]["backfillId"]

    def runs() -> list[dg.DagsterRun]:
        return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})))

    def step() -> bool:
        errors = [error for error in execute_backfill_iteration(workspace, logging.getLogger("backfill")) if error]
        assert not errors, errors
        wait_for(lambda: all(run.is_finished for run in runs()), "the runs of this step end", 60)
        backfill = instance.get_backfill(backfill_id)
        assert backfill is not None
        assert backfill.status != BulkActionStatus.FAILED, backfill.error
        return backfill.status == BulkActionStatus.COMPLETED_SUCCESS

    wait_for(step, "the backfill completes", 180)
    return runs()


def test_hours_of_several_datasets_are_one_run(shop: Shop, workspace: WorkspaceProcessContext) -> None:
    for dataset in ("orders", "visits"):
        shop.land_hours(48, dataset=dataset)
    (run,) = _backfill(workspace, [ORDERS, VISITS], TWO_DAYS)
    assert run.is_success
    for key in (ORDERS, VISITS):
        assert materialized(workspace.instance, key) == TWO_DAYS
    with shop.warehouse() as warehouse:
        rows = warehouse.execute(
            "SELECT (SELECT count(*) FROM raw.orders), (SELECT count(*) FROM raw.visits)"
        ).fetchone()
    assert rows == (48, 48)


def test_days_of_a_mart_are_one_run(shop: Shop, workspace: WorkspaceProcessContext) -> None:
    shop.land_hours(48)
    (run,) = _backfill(workspace, [DAILY_ORDERS], ["2026-03-01", "2026-03-02"])
    assert run.is_success
    assert materialized(workspace.instance, DAILY_ORDERS) == ["2026-03-01", "2026-03-02"]


def test_an_hour_and_the_days_it_changes_are_backfilled_level_by_level(
    shop: Shop, workspace: WorkspaceProcessContext
) -> None:
    shop.land_hours(72)
    runs = _backfill(workspace, [ORDERS, DAILY_ORDERS], ["2026-03-03-05:00"])
    assert {tuple(sorted(key.to_user_string() for key in run.asset_selection or ())) for run in runs} == {
        ("raw/orders",),
        ("marts/daily_orders",),
    }
    assert materialized(workspace.instance, ORDERS) == ["2026-03-03-05:00"]
    assert materialized(workspace.instance, DAILY_ORDERS) == ["2026-03-01", "2026-03-02", "2026-03-03"]
