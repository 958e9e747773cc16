"""Publishes whatever is stale: raw windows first, then the marts over what changed in them."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.databases.statistics import renew_statistics
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.rules import RuleResult
from incident_pipelines.core.errors import CheckError, InvalidDocument, WindowOwned
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.publish import PublishedWindow, RefusedByRules, contract_of, publish_window

StaleWindow = tuple[str, TimeWindow]


@dataclass(frozen=True)
class Skipped:
    """Somebody else is publishing the window, or an incident holds it; it stays stale if that is of older inputs."""

    dataset: str
    window: TimeWindow
    message: str


@dataclass(frozen=True)
class Refused:
    """The window failed its rules; it is tried again when its inputs change."""

    dataset: str
    window: TimeWindow
    message: str
    results: tuple[RuleResult, ...]


@dataclass(frozen=True)
class Failed:
    """The window could not be built or judged, which says nothing about its data; it stays stale."""

    dataset: str
    window: TimeWindow
    message: str


Refreshed = PublishedWindow | Skipped | Refused | Failed


def stale_windows(warehouse: Engine, catalog: Catalog) -> list[StaleWindow]:
    """Return the windows whose inputs are newer than what was decided about them.

    Returns:
        Raw first, references before what refers to them, then marts; of each dataset the newest window first, so that
        the current hour never waits for a long past. Windows that have not begun yet are left out.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        return [*_stale_raw(connection, catalog), *_stale_marts(connection, catalog)]


def undecided_windows(warehouse: Engine, windows: Iterable[StaleWindow]) -> set[StaleWindow]:
    """Return those windows that were never published nor refused.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        decided = set(connection.execute(query("all_decided_windows")).tuples())
    return {(dataset, window) for dataset, window in windows if (dataset, window.start) not in decided}


def refresh(
    warehouse: Engine, catalog: Catalog, *, owner: str, datasets_at_once: int = 1
) -> Generator[Refreshed, None, None]:
    """Publish all stale windows, yielding each once it is done.

    Marts are looked up again once raw is published. Windows that somebody else is publishing are left to them, and one
    that cannot be built does not keep the others. Closing the generator waits for the windows under way and begins no
    other.

    Args:
        owner: who does it; shown to others that want a window.
        datasets_at_once: how many datasets to publish at the same time. The windows of one dataset follow each other:
            copies of an event and values that must be unique are looked for in what its other windows have published.
            A dataset waits for those that it refers to.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    publish = partial(refresh_window, warehouse, catalog, owner=owner)
    changed: Counter[str] = Counter()
    with available("warehouse"), warehouse.connect() as connection:
        windows = _stale_raw(connection, catalog)
    for outcome in _publish_all(publish, catalog, windows, datasets_at_once):
        if isinstance(outcome, PublishedWindow):
            changed[outcome.dataset] += outcome.changed_rows
        yield outcome
    with available("warehouse"):
        renew_statistics(warehouse, {name: rows for name, rows in changed.items() if catalog.downstream(name)})
        with warehouse.connect() as connection:
            windows = _stale_marts(connection, catalog)
    yield from _publish_all(publish, catalog, windows, datasets_at_once)


def refresh_window(
    warehouse: Engine,
    catalog: Catalog,
    dataset: str,
    window: TimeWindow,
    *,
    owner: str,
    wait_seconds: float = 0,
    root_run_id: str | None = None,
    incident_id: str | None = None,
) -> Refreshed:
    """Publish one window and return what came of it instead of raising; SourceUnavailable is still raised."""
    try:
        return publish_window(
            warehouse,
            catalog,
            dataset,
            window,
            owner=owner,
            wait_seconds=wait_seconds,
            root_run_id=root_run_id,
            incident_id=incident_id,
        )
    except WindowOwned as error:
        return Skipped(dataset, window, str(error))
    except RefusedByRules as error:
        return Refused(dataset, window, str(error), error.results)
    except (CheckError, InvalidDocument) as error:
        return Failed(dataset, window, str(error))
    except DBAPIError as error:
        # The first line only: what follows may quote the data.
        return Failed(dataset, window, f"{type(error.orig).__name__}: {str(error.orig).strip().splitlines()[0]}")


def _publish_all(
    publish: Callable[[str, TimeWindow], Refreshed],
    catalog: Catalog,
    windows: Iterable[StaleWindow],
    datasets_at_once: int,
) -> Iterator[Refreshed]:
    left: dict[str, deque[TimeWindow]] = {}
    for dataset, window in windows:
        left.setdefault(dataset, deque()).append(window)
    under_way: dict[Future[Refreshed], str] = {}
    done: set[Future[Refreshed]] = set()
    with ThreadPoolExecutor(datasets_at_once, thread_name_prefix="publish") as pool:
        while left or done:
            # The next windows are begun before the caller gets the last ones, which takes its time.
            for dataset in left:
                if len(under_way) == datasets_at_once:
                    break
                if dataset not in under_way.values() and not _refers_to(catalog, dataset) & left.keys():
                    under_way[pool.submit(publish, dataset, left[dataset].popleft())] = dataset
            for future in done:
                yield future.result()
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                dataset = under_way.pop(future)
                if not left[dataset]:
                    del left[dataset]


def _refers_to(catalog: Catalog, dataset: str) -> set[str]:
    """Other datasets whose rows those of a dataset must find."""
    columns = contract_of(catalog, dataset).columns
    return {column.reference.dataset for column in columns if column.reference} - {dataset}


def _stale_raw(connection: Connection, catalog: Catalog) -> list[StaleWindow]:
    whole = [contract.name for contract in catalog.landed.values() if contract.time_column is None]
    found = connection.execute(
        query("stale_raw"), {"datasets": list(catalog.landed), "whole": whole, "start": catalog.start}
    )
    order = list(catalog.landed)
    rows = sorted(found, key=lambda row: (order.index(row.dataset), -row.window_start.timestamp()))
    return [(row.dataset, catalog.window_of(catalog.landed[row.dataset], row.window_start)) for row in rows]


def _stale_marts(connection: Connection, catalog: Catalog) -> list[StaleWindow]:
    found = connection.execute(query("stale_marts"), {"datasets": list(catalog.marts)})
    rows = sorted(found, key=lambda row: (row.dataset, -row.window_start.timestamp()))
    return [(row.dataset, TimeWindow.day_of(row.window_start)) for row in rows]
