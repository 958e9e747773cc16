"""Windows as Dagster's partitions."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.windows import TimeWindow


def partitions_of(catalog: Catalog, contract: Contract) -> dg.TimeWindowPartitionsDefinition | None:
    """Return the partitions of a dataset: hours, days for a mart, or None where it is one window.

    The hour and the day that are not over yet are partitions too.
    """
    if isinstance(contract, MartContract):
        return dg.DailyPartitionsDefinition(start_date=TimeWindow.day_of(catalog.start).start, end_offset=1)
    if contract.time_column is None:
        return None
    return dg.HourlyPartitionsDefinition(start_date=catalog.start, end_offset=1)


def reach_mapping(catalog: Catalog, mart: MartContract) -> dg.TimeWindowPartitionMapping:
    """Return what says which hours a day of a mart is made from: its own and those of the days within its reach.

    Offsets of a mapping count in the unit of the downstream partitions: days.
    """
    first_day = TimeWindow.day_of(catalog.start).start
    if catalog.start == first_day:
        return dg.TimeWindowPartitionMapping(end_offset=mart.reach_days)
    # The first day begins before the first hour.
    return dg.TimeWindowPartitionMapping(end_offset=mart.reach_days, allow_nonexistent_upstream_partitions=True)


def partition_key(catalog: Catalog, contract: Contract, window: TimeWindow) -> str | None:
    """Return the key of a window; None where the dataset is one window."""
    partitions = partitions_of(catalog, contract)
    return partitions and window.start.astimezone(UTC).strftime(partitions.fmt)


def windows_of_keys(catalog: Catalog, contract: Contract, keys: Iterable[str]) -> Sequence[TimeWindow]:
    """Return the windows of partition keys; without partitions, the one window there is."""
    partitions = partitions_of(catalog, contract)
    if partitions is None:
        return (catalog.whole,)
    starts = (datetime.strptime(key, partitions.fmt).replace(tzinfo=UTC) for key in keys)
    return tuple(catalog.window_of(contract, start) for start in starts)
