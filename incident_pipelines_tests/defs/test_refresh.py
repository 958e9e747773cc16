"""The refresh job: publishes what is stale, keeps going past what fails, and does not bury older runs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.refresh.job import REFUSED_TAG, refresh_job, refresh_schedule
from incident_pipelines.defs.refresh.old_runs import JUDGED_TAG, KEPT, REFRESH_TAGS, holds_latest, prune_old_runs
from incident_pipelines_tests.builders import order_bytes
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.runs import environment, materialized
from incident_pipelines_tests.defs.shop import DAILY_ORDERS, ORDERS, PRODUCTS, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

LANDING_ORDERS = dg.AssetKey(["landing", "orders"])


@pytest.fixture
def shop(tmp_path: Path, own_databases: Databases) -> Iterator[Shop]:
    shop = open_shop(tmp_path, own_databases)
    with environment(shop.variables):
        yield shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _refresh(shop: Shop, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = refresh_job(shop.catalog)
    return job.execute_in_process(instance=instance, raise_on_error=False)


def _problems(result: dg.ExecuteInProcessResult) -> str:
    return result.failure_data_for_node("report_problems").error.message  # type: ignore[union-attr]


def _tags(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.tags


def test_stale_windows_of_every_level_are_published_in_one_run(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.stock("pen")
    shop.land_hours(26)
    result = _refresh(shop, instance)
    assert result.success
    assert len(instance.get_materialized_partitions(ORDERS)) == 26
    assert instance.get_materialized_partitions(DAILY_ORDERS) == {"2026-03-01", "2026-03-02"}
    assert instance.get_latest_materialization_event(PRODUCTS) is not None
    with shop.warehouse() as warehouse:
        assert warehouse.execute("SELECT sum(orders) FROM marts.daily_orders").fetchone() == (26,)
    checked = {
        entry.get_dagster_event().asset_check_evaluation_data.asset_check_key
        for entry in instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    }
    graph = shop.definitions.resolve_asset_graph()
    assert checked == set(graph.get_check_keys_for_assets({ORDERS, PRODUCTS, DAILY_ORDERS}))


def test_nothing_is_published_twice(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.stock("pen")
    shop.land_hours(2)
    _refresh(shop, instance)
    again = _refresh(shop, instance)
    assert again.success
    assert materialized(instance, ORDERS, again.run_id) == []
    assert materialized(instance, PRODUCTS, again.run_id) == []


def test_landing_is_observed_once_a_run(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land([order_bytes(), order_bytes(amount=-1), order_bytes()])
    _refresh(shop, instance)
    (record,) = instance.fetch_observations(LANDING_ORDERS, limit=10).records
    observation = record.event_log_entry.asset_observation
    assert observation is not None
    shown = {name: value.value for name, value in observation.metadata.items()}
    assert (shown["rows"], shown["dead_letters"], shown["origins"]) == (3, 1, 1)
    assert DATA_VERSION_TAG not in observation.tags


def test_a_source_that_is_down_stops_only_itself_and_fails_the_run_at_its_end(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.land_hours(2)
    with environment({"APP_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}):
        result = _refresh(shop, instance)
    assert not result.success
    assert "products was not extracted: shop database cannot be reached" in _problems(result)
    assert REFUSED_TAG not in _tags(instance, result)
    assert len(instance.get_materialized_partitions(ORDERS)) == 2
    assert len(instance.fetch_observations(LANDING_ORDERS, limit=10).records) == 1


def test_a_refused_window_fails_one_run_and_the_others_go_on(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land_hours(2)
    shop.land([order_bytes(occurred_at="2026-03-01T01:30:00Z", amount=-1)])
    first = _refresh(shop, instance)
    assert not first.success
    assert "amount_is_at_least_0" in _problems(first)
    assert _tags(instance, first)[REFUSED_TAG] == "1"
    assert instance.get_materialized_partitions(ORDERS) == {"2026-03-01-00:00"}
    assert _refresh(shop, instance).success, "it is not tried again before its inputs change"


def test_a_run_in_which_more_went_wrong_than_windows_that_were_refused_is_told_apart(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.land([order_bytes(occurred_at="2026-03-01T01:30:00Z", amount=-1)])
    with environment({"APP_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}):
        result = _refresh(shop, instance)
    assert "amount_is_at_least_0" in _problems(result)
    assert REFUSED_TAG not in _tags(instance, result)


def test_a_window_that_somebody_owns_stays_stale(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land_hours(2)
    with shop.warehouse() as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key("orders", TimeWindow.hour_of(shop.catalog.start)),))
        assert _refresh(shop, instance).success
        assert instance.get_materialized_partitions(ORDERS) == {"2026-03-01-01:00"}
    assert _refresh(shop, instance).success
    assert instance.get_materialized_partitions(ORDERS) == {"2026-03-01-00:00", "2026-03-01-01:00"}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_tick_that_finds_a_run_under_way_is_skipped(shop: Shop, tmp_path: Path, status: dg.DagsterRunStatus) -> None:
    job = refresh_job(shop.catalog)
    schedule = refresh_schedule(job)
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance=instance) as context,
    ):
        assert isinstance(schedule(context), dg.RunRequest)
        run = instance.create_run_for_job(job_def=job, status=status)
        skipped = schedule(context)
        assert isinstance(skipped, dg.SkipReason)
        assert run.run_id in str(skipped.skip_message)
        instance.delete_run(run.run_id)
        assert isinstance(schedule(context), dg.RunRequest)


def test_old_runs_go_unless_they_hold_the_latest_of_something(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.stock("pen")
    shop.land([order_bytes(occurred_at="2026-03-01T00:10:00Z")])
    superseded = _refresh(shop, instance)
    shop.land([order_bytes(occurred_at="2026-03-01T00:20:00Z")])
    holds_orders = _refresh(shop, instance)
    idle = [_refresh(shop, instance) for _ in range(3)]
    # The first run still holds the only materialization of products.
    assert holds_latest(instance, superseded.run_id)
    before = {key: instance.get_materialized_partitions(key) for key in (ORDERS, DAILY_ORDERS)}

    assert prune_old_runs(instance, datetime.now(UTC) + timedelta(minutes=30)).deleted == 0
    later = datetime.now(UTC) + timedelta(hours=2)
    assert prune_old_runs(instance, later, limit=3).deleted + 2 == 3, "two hold something, one of the idle ones went"
    pruned = prune_old_runs(instance, later)

    assert (pruned.deleted, pruned.kept) == (2, 0), "a run that stays is not judged again"
    assert {run.run_id for run in instance.get_runs()} == {superseded.run_id, holds_orders.run_id}
    assert all(run.tags[JUDGED_TAG] == KEPT for run in instance.get_runs())
    assert {key: instance.get_materialized_partitions(key) for key in (ORDERS, DAILY_ORDERS)} == before
    assert instance.get_latest_materialization_event(PRODUCTS) is not None
    assert idle


def test_a_run_whose_materializations_are_all_superseded_goes(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.land([order_bytes(occurred_at="2026-03-01T00:10:00Z")])
    superseded = _refresh(shop, instance)
    shop.land([order_bytes(occurred_at="2026-03-01T00:20:00Z")])
    latest = _refresh(shop, instance)
    assert not holds_latest(instance, superseded.run_id)
    assert holds_latest(instance, latest.run_id)
    prune_old_runs(instance, datetime.now(UTC) + timedelta(hours=2))
    assert [run.run_id for run in instance.get_runs()] == [latest.run_id]


def test_runs_of_other_jobs_are_never_pruned(shop: Shop, instance: dg.DagsterInstance) -> None:
    other = instance.create_run_for_job(
        job_def=refresh_job(shop.catalog), status=dg.DagsterRunStatus.SUCCESS, tags={"team": "ours"}
    )
    assert not REFRESH_TAGS.items() <= other.tags.items()
    assert prune_old_runs(instance, datetime.now(UTC) + timedelta(days=400)).deleted == 0
    assert instance.get_run_by_id(other.run_id) is not None


def test_refresh_runs_can_be_filtered_by_a_tag(shop: Shop, instance: dg.DagsterInstance) -> None:
    result = _refresh(shop, instance)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["incident_pipelines/job"] == "refresh"
    assert run.tags["dagster/max_retries"] == "0"
