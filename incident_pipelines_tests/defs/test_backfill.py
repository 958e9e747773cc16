"""A backfill as the UI launches it, on real Dagster processes, one of which is killed in the middle."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.dagster_processes import (
    BACKFILL,
    LAUNCH_BACKFILL,
    DagsterServer,
    backfill_parameters,
    dagster_processes,
)
from incident_pipelines_tests.defs.runs import environment, materialized
from incident_pipelines_tests.defs.shop import ORDERS, VISITS, Shop, open_shop
from incident_pipelines_tests.landing_tools import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.drill, pytest.mark.timeout(420)]

DAYS = 7
PARTITIONS = [f"2026-03-{day:02}-{hour:02}:00" for day in range(1, DAYS + 1) for hour in range(24)]
_PID = re.compile(r"pid: (\d+)")


def _finished(server: DagsterServer, backfill_id: str) -> dict[str, Any] | None:
    status = server.query(BACKFILL, {"id": backfill_id})["partitionBackfillOrError"]
    return status if status["status"] not in ("REQUESTED", "CANCELING") else None


def _worker(instance: dg.DagsterInstance, backfill_id: str) -> tuple[str, int] | None:
    """Return run and process of the backfill once the run has reported some windows and has many to go."""
    for run in instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})):
        if 10 <= len(materialized(instance, ORDERS, run.run_id)) < len(PARTITIONS):
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
                if found := _PID.search(entry.user_message):
                    return run.run_id, int(found[1])
    return None


def test_seven_days_of_two_datasets_with_the_run_killed_in_the_middle(tmp_path: Path, own_databases: Databases) -> None:
    shop: Shop = open_shop(tmp_path / "shop", own_databases)
    for dataset in ("orders", "visits"):
        shop.land_hours(DAYS * 24, dataset=dataset)
    variables = {
        **shop.variables,
        "DAGSTER_POSTGRES_URL": own_databases.url("control").replace("+psycopg:", "+psycopg2:"),
        "DAGSTER_EVENT_BATCH_SIZE": "100",
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    with (
        dagster_processes(tmp_path / "dagster", variables) as server,
        environment(variables),
        dg.DagsterInstance.get() as instance,
    ):
        launched = server.query(LAUNCH_BACKFILL, backfill_parameters([ORDERS.path, VISITS.path], PARTITIONS))
        backfill_id = launched["launchPartitionBackfill"]["backfillId"]
        killed_run, pid = wait_for(lambda: _worker(instance, backfill_id), "a run is in the middle", 120)
        os.kill(pid, signal.SIGKILL)
        done = wait_for(lambda: _finished(server, backfill_id), "the backfill ends", 240)
        assert done["status"] == "COMPLETED_SUCCESS", done

        runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id}))
        assert {run.run_id for run in runs} > {killed_run}
        killed = instance.get_run_by_id(killed_run)
        assert killed is not None
        assert killed.status == dg.DagsterRunStatus.FAILURE
        for key in (ORDERS, VISITS):
            by_run = {run.run_id: materialized(instance, key, run.run_id) for run in runs}
            reported = [partition for partitions in by_run.values() for partition in partitions]
            assert sorted(reported) == PARTITIONS, "each window is reported once by the run and its retry"
            assert instance.get_materialized_partitions(key) == set(PARTITIONS)
        with shop.warehouse() as warehouse:
            counted = warehouse.execute(
                "SELECT (SELECT count(*) FROM raw.orders), (SELECT count(*) FROM raw.visits)"
            ).fetchone()
        assert counted == (len(PARTITIONS), len(PARTITIONS))
