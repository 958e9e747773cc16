"""Windows and Dagster's partitions are the same thing, and a mart's days see the hours that its contract says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.partitions import partition_key, partitions_of, reach_mapping, windows_of_keys
from incident_pipelines_tests.defs.shop import shop_files

NOW = datetime(2026, 3, 20, 13, 30, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return load_catalog(shop_files(tmp_path))


def _hours_of_day(catalog: Catalog, day: str) -> list[str]:
    mart = catalog.marts["daily_orders"].contract
    days, hours = partitions_of(catalog, mart), partitions_of(catalog, catalog.landed["orders"])
    assert days is not None
    assert hours is not None
    with partition_loading_context(NOW):
        mapped = reach_mapping(catalog, mart).get_upstream_mapped_partitions_result_for_partitions(
            days.subset_with_partition_keys([day]), days, hours
        )
        return list(mapped.partitions_subset.get_partition_keys())


def test_a_mart_day_is_made_from_its_own_hours_and_those_of_the_days_within_reach(catalog: Catalog) -> None:
    hours = _hours_of_day(catalog, "2026-03-05")
    assert (hours[0], hours[-1], len(hours)) == ("2026-03-05-00:00", "2026-03-07-23:00", 72)


def test_the_last_days_are_made_from_the_hours_that_have_begun(catalog: Catalog) -> None:
    hours = _hours_of_day(catalog, "2026-03-20")
    assert (hours[0], hours[-1], len(hours)) == ("2026-03-20-00:00", "2026-03-20-13:00", 14)


def test_an_hour_changes_its_own_day_and_the_days_before_it_within_reach(catalog: Catalog) -> None:
    mart = catalog.marts["daily_orders"].contract
    days, hours = partitions_of(catalog, mart), partitions_of(catalog, catalog.landed["orders"])
    assert days is not None
    assert hours is not None
    with partition_loading_context(NOW):
        changed = reach_mapping(catalog, mart).get_downstream_partitions_for_partitions(
            hours.subset_with_partition_keys(["2026-03-05-07:00"]), hours, days
        )
        assert list(changed.get_partition_keys()) == ["2026-03-03", "2026-03-04", "2026-03-05"]


def test_partitions_begin_with_the_catalog_and_end_with_the_hour_and_the_day_that_are_not_over(
    catalog: Catalog,
) -> None:
    hours = partitions_of(catalog, catalog.landed["orders"])
    days = partitions_of(catalog, catalog.marts["daily_orders"].contract)
    assert hours is not None
    assert days is not None
    assert partitions_of(catalog, catalog.landed["products"]) is None
    with partition_loading_context(NOW):
        assert (hours.get_first_partition_key(), hours.get_last_partition_key()) == (
            "2026-03-01-00:00",
            "2026-03-20-13:00",
        )
        assert (days.get_first_partition_key(), days.get_last_partition_key()) == ("2026-03-01", "2026-03-20")


@pytest.mark.parametrize("start", ["2026-03-01T05:00:00Z", "2026-03-01T23:00:00Z"])
def test_a_catalog_may_start_within_a_day(tmp_path: Path, start: str) -> None:
    catalog = load_catalog({**shop_files(tmp_path), "INCIDENT_PIPELINES_START": start})
    hours = _hours_of_day(catalog, "2026-03-01")
    assert hours[0] == datetime.fromisoformat(start).strftime("%Y-%m-%d-%H:%M")
    assert hours[-1] == "2026-03-03-23:00"


def test_windows_and_keys_name_each_other(catalog: Catalog) -> None:
    instant = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # clocks change in Europe: UTC has no such hour
    for contract in (*catalog.landed.values(), *(mart.contract for mart in catalog.marts.values())):
        window = catalog.window_of(contract, instant)
        key = partition_key(catalog, contract, window)
        assert windows_of_keys(catalog, contract, [key] if key else []) == (window,)
        partitions = partitions_of(catalog, contract)
        assert (key is None) == (partitions is None)
        if key and partitions:
            dagster_window = partitions.time_window_for_partition_key(key)
            assert TimeWindow(dagster_window.start.astimezone(UTC), dagster_window.end.astimezone(UTC)) == window


def test_the_mapping_counts_offsets_in_days(catalog: Catalog) -> None:
    mapping = reach_mapping(catalog, catalog.marts["daily_orders"].contract)
    assert mapping == dg.TimeWindowPartitionMapping(start_offset=0, end_offset=2)
    assert timedelta(days=mapping.end_offset) == timedelta(days=2)
