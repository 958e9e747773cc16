"""Runs of raw and mart assets: reported by window, resumed by window, refused and owned windows named."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs import publishing
from incident_pipelines.stages.publication import backfill
from incident_pipelines.stages.publication.refresh import Refreshed, refresh_window
from incident_pipelines_tests.builders import order_bytes
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.runs import environment, launch, materialized, range_tags
from incident_pipelines_tests.defs.shop import DAILY_ORDERS, ORDERS, PRODUCTS, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

FIRST, LAST = "2026-03-01-00:00", "2026-03-01-11:00"
TWELVE_HOURS = range_tags(FIRST, LAST)


@pytest.fixture
def shop(tmp_path: Path, own_databases: Databases) -> Iterator[Shop]:
    shop = open_shop(tmp_path, own_databases)
    with environment(shop.variables):
        yield shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _impatient(*arguments: Any, **options: Any) -> Refreshed:
    return refresh_window(*arguments, **{**options, "wait_seconds": 0.1})


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return what the run's log says about its failed steps."""
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [entry.get_dagster_event().step_failure_data.error for entry in failures]
    return "\n".join(error.message for error in errors if error)


def test_a_range_is_one_run_that_reports_each_window_with_its_numbers(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land_hours(3, each=2)
    run = launch(instance, shop.definitions, [ORDERS], TWELVE_HOURS)
    assert run.is_success
    assert len(materialized(instance, ORDERS)) == 12
    assert instance.get_materialized_partitions(ORDERS) == set(materialized(instance, ORDERS))
    event = instance.get_latest_materialization_event(ORDERS)
    assert event is not None
    filled = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=ORDERS, asset_partitions=["2026-03-01-02:00"]), limit=1
    ).records[0]
    materialization = filled.asset_materialization
    assert materialization is not None
    offsets = materialization.metadata["offsets"]
    assert isinstance(offsets, dg.TableMetadataValue)
    numbers = {name: value.value for name, value in materialization.metadata.items() if name != "offsets"}
    assert (numbers["rows"], numbers["changed_rows"], numbers["duplicates"], numbers["quarantined"]) == (2, 2, 0, 0)
    assert offsets.records[0].data["last position"] == 5
    assert filled.event_log_entry.user_message.startswith("window 3 of 12 [2026-03-01 02:00, 2026-03-01 03:00): 2 rows")


def test_a_second_backfill_builds_every_window_again_and_changes_no_row(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.land_hours(3)
    first = launch(instance, shop.definitions, [ORDERS], TWELVE_HOURS)
    second = launch(instance, shop.definitions, [ORDERS], TWELVE_HOURS)
    assert first.is_success
    assert second.is_success
    assert len(materialized(instance, ORDERS, second.run_id)) == 12
    with shop.warehouse() as warehouse:
        changed = warehouse.execute(
            "SELECT root_run_id, sum(changed_rows) FROM publication.progress GROUP BY 1"
        ).fetchall()
    assert dict(changed) == {first.run_id: 3, second.run_id: 0}


def test_a_killed_run_keeps_what_was_done_and_its_retry_does_only_the_rest(
    shop: Shop, own_databases: Databases, tmp_path: Path
) -> None:
    shop.land_hours(12)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\ntelemetry: {enabled: false}\n",
        encoding="utf-8",
    )
    variables = {
        **shop.variables,
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": own_databases.url("control").replace("+psycopg:", "+psycopg2:"),
        "DAGSTER_EVENT_BATCH_SIZE": "100",
    }
    command = [sys.executable, "-m", "incident_pipelines_tests.defs.runs", FIRST, LAST]

    killed = subprocess.run(
        command,
        env={**os.environ, **variables, ENVIRONMENT_VARIABLE: "publish.after_commit=7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    root = killed.stdout.split()[0]
    with environment(variables), dg.DagsterInstance.get() as instance:
        reported = materialized(instance, ORDERS)
        assert len(reported) < 7, "the seventh was published, and the run was killed before it could say so"

        retried = subprocess.run(
            [*command, root], env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        assert retried.returncode == 0, retried.stderr
        everything = materialized(instance, ORDERS)
    assert everything[: len(reported)] == reported
    assert len(everything) == len(set(everything)) == 12, "each window is reported once"
    with shop.warehouse() as warehouse:
        owners = warehouse.execute("SELECT owner, count(*) FROM publication.windows GROUP BY 1").fetchall()
        rows = warehouse.execute("SELECT count(*) FROM raw.orders").fetchone()
    retry = retried.stdout.split()[0]
    assert dict(owners) == {f"dagster run {root}": 7, f"dagster run {retry}": 5}
    assert rows == (12,)


def test_refused_windows_do_not_keep_the_others_and_fail_the_run_at_its_end(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.land_hours(3)
    shop.land([order_bytes(occurred_at="2026-03-01T01:30:00Z", amount=-1)])  # a dead letter: half of that hour
    run = launch(instance, shop.definitions, [ORDERS], TWELVE_HOURS)
    assert not run.is_success
    assert set(materialized(instance, ORDERS)) == {f"2026-03-01-{hour:02}:00" for hour in range(12) if hour != 1}
    message = _failure(instance, run)
    assert "1 windows of orders were not published" in message
    assert "[2026-03-01 01:00, 2026-03-01 02:00)" in message
    assert "amount_is_at_least_0" in message
    assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)


def test_a_window_of_another_owner_is_named_with_its_owner_and_tried_once_more(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "RETRY_SECONDS", 0)
    monkeypatch.setattr(backfill, "refresh_window", _impatient)
    shop.land_hours(2)
    window = TimeWindow.hour_of(shop.catalog.start)
    with shop.warehouse() as other:
        other.execute("SET application_name = 'a person with psql'")
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key("orders", window),))
        run = launch(instance, shop.definitions, [ORDERS], range_tags(FIRST, "2026-03-01-01:00"))
    assert not run.is_success
    assert "a person with psql" in _failure(instance, run)
    assert len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert materialized(instance, ORDERS) == ["2026-03-01-01:00"], "once, though the step ran twice"


def test_a_dataset_without_partitions_is_extracted_and_later_steps_of_the_run_follow(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.stock("pen", "ink")
    run = launch(instance, shop.definitions, [PRODUCTS], {})
    assert run.is_success
    event = instance.get_latest_materialization_event(PRODUCTS)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["rows"].value == 2
    again = launch(instance, shop.definitions, [PRODUCTS], {}, root_run_id=run.run_id)
    assert again.is_success


def test_a_source_that_is_down_fails_the_run_and_names_it(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "RETRY_SECONDS", 0)
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    run = launch(instance, shop.definitions, [PRODUCTS], {})
    assert not run.is_success
    assert "shop database cannot be reached" in _failure(instance, run)
    monkeypatch.delenv("APP_DATABASE_URL")
    run = launch(instance, shop.definitions, [PRODUCTS], {})
    assert "APP_DATABASE_URL is not set" in _failure(instance, run)


def test_a_mart_day_is_built_from_raw(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land_hours(30)
    launch(instance, shop.definitions, [ORDERS], range_tags(FIRST, "2026-03-02-05:00"))
    run = launch(instance, shop.definitions, [DAILY_ORDERS], range_tags("2026-03-01", "2026-03-02"))
    assert run.is_success
    assert materialized(instance, DAILY_ORDERS) == ["2026-03-01", "2026-03-02"]
    with shop.warehouse() as warehouse:
        days = warehouse.execute("SELECT day::text, orders FROM marts.daily_orders ORDER BY 1").fetchall()
    assert days == [("2026-03-01", 24), ("2026-03-02", 6)]


def test_checks_say_how_all_windows_stand_and_run_by_themselves(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land_hours(2)
    shop.land([order_bytes(occurred_at="2026-03-01T01:30:00Z", amount=-1)])
    launch(instance, shop.definitions, [ORDERS], range_tags("2026-03-01-01:00", "2026-03-01-01:00"))
    launch(instance, shop.definitions, [ORDERS], range_tags(FIRST, FIRST))
    key = dg.AssetCheckKey(ORDERS, "amount_is_at_least_0")
    job = shop.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={key}
    )
    result = job.execute_in_process(instance=instance)
    assert result.success
    assert len(materialized(instance, ORDERS)) == 1, "nothing is built for a check"
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    shown = {name: value.value for name, value in evaluation.metadata.items()}
    assert (shown["windows"], shown["windows_failed"], shown["unexpected_rows"]) == (2, 1, 1)
    assert shown["worst_window"] == TimeWindow.hour_of(shop.catalog.start).end.timestamp()


def test_a_check_of_what_was_never_built_is_an_error_and_not_bad_data(shop: Shop, instance: dg.DagsterInstance) -> None:
    key = dg.AssetCheckKey(ORDERS, "amount_is_at_least_0")
    job = shop.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={key}
    )
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    assert result.get_asset_check_evaluations() == []
