"""Publishes a range of windows for one run, so that a retry of that run does only those that are not done."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.publish import PublishedWindow, contract_of
from incident_pipelines.stages.publication.refresh import Failed, Refused, Skipped, refresh_window


@dataclass(frozen=True)
class AlreadyDone:
    """The run, or the one it retries, has published the window from the inputs as they are now.

    Args:
        version: of these inputs.
        changed_rows: when it was published.
    """

    dataset: str
    window: TimeWindow
    version: int
    changed_rows: int


def publish_range(
    warehouse: Engine,
    catalog: Catalog,
    dataset: str,
    windows: Sequence[TimeWindow],
    *,
    root_run_id: str,
    owner: str,
    before: Callable[[TimeWindow], None] | None = None,
    incident_id: str | None = None,
) -> Iterator[PublishedWindow | AlreadyDone | Skipped | Refused | Failed]:
    """Publish windows one by one, yielding each as it is done; one that cannot be published does not keep the others.

    Args:
        root_run_id: the first run of a chain of retries; what it has done is noted with the window it published.
        owner: who does it; shown to others that want a window.
        before: called with each window that is not done yet, before it is built.
        incident_id: on whose behalf it is done; what an incident holds nobody else may publish.

    Raises:
        ValueError: no such dataset, or not its windows.
        SourceUnavailable: the warehouse does not answer; what was yielded is done.
    """
    contract = contract_of(catalog, dataset)
    with available("warehouse"), warehouse.connect() as connection:
        rows = connection.execute(
            query("done_windows"),
            {"root_run_id": root_run_id, "dataset": dataset, "whole": contract.time_column is None},
        )
        done = {row.window_start: row for row in rows}
    for window in windows:
        if (row := done.get(window.start)) is not None:
            yield AlreadyDone(dataset, window, row.version, row.changed_rows)
            continue
        if before:
            before(window)
        yield refresh_window(
            warehouse,
            catalog,
            dataset,
            window,
            owner=owner,
            wait_seconds=60,
            root_run_id=root_run_id,
            incident_id=incident_id,
        )
