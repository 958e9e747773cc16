"""Publishes one window: built aside, checked, brought into place in the same transaction, only where it differs."""

import time
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.checks.great_expectations import ContractSuite
from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.protection import confirm_publish
from incident_pipelines.adapters.databases.publication import (
    WindowCounts,
    WindowInputs,
    failed_rules,
    key_is_published_elsewhere,
    read_inputs,
    store_decision,
    take_window,
    was_overtaken,
)
from incident_pipelines.adapters.databases.window_contents import record_outside_change
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.holds import check_holds
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.contracts.rules import RuleResult
from incident_pipelines.core.errors import WindowOwned, WindowRefused
from incident_pipelines.core.publication import OffsetSpan, window_rules
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.mart_builds import InputsMoved, MartBuild
from incident_pipelines.stages.publication.window_builds import Build, RawBuild

_ATTEMPTS = 6


@dataclass(frozen=True)
class PublishedWindow:
    """What a publish did.

    Args:
        version: of the inputs it was made from.
        rows: in the window now.
        changed_rows: inserted, updated or deleted; 0 where nothing differed.
        duplicates: identical copies left out.
        dead_letters, quarantined: that belong to the window and are not in it.
        offsets: part of the log it was made from; empty for a mart.
        results: of the rules, all of which the window may be published with.
        seconds: from asking for the window to the commit.
    """

    dataset: str
    window: TimeWindow
    version: int
    rows: int
    changed_rows: int
    duplicates: int
    dead_letters: int
    quarantined: int
    offsets: tuple[OffsetSpan, ...]
    results: tuple[RuleResult, ...]
    seconds: float


class RefusedByRules(WindowRefused):
    """A window failed its checks.

    Args:
        results: of all its rules.
    """

    def __init__(self, dataset: str, window: TimeWindow, results: tuple[RuleResult, ...]) -> None:
        broken = "; ".join(
            f"{failed['rule']}: {failed['unexpected']} of {failed['rows']} rows, at most {failed['max_share']:.2%} may"
            for failed in failed_rules(results)
        )
        super().__init__(f"{dataset} {window.start.isoformat()} is refused, what was published before stays ({broken})")
        self.results = results


def publish_window(
    warehouse: Engine,
    catalog: Catalog,
    dataset: str,
    window: TimeWindow,
    *,
    owner: str,
    wait_seconds: float = 60,
    root_run_id: str | None = None,
    incident_id: str | None = None,
) -> PublishedWindow:
    """Build a window from its inputs and publish it if its rules allow.

    For any snapshot the window is either the old or the new one. Doing it again on the same inputs changes no row, and
    puts back what was altered by hand.

    Args:
        dataset: a landed dataset (its raw window is published) or a mart.
        window: one of the dataset's windows.
        owner: who does it; shown to others that want the window.
        wait_seconds: how long to wait for another owner.
        root_run_id: run over a range that the window is done for; noted in the same transaction.
        incident_id: on whose behalf it is done; what an incident holds nobody else may publish.

    Raises:
        ValueError: no such dataset, or not one of its windows.
        WindowOwned: somebody else is publishing it, or an incident holds it; the message names who.
        WindowRefused: a rule failed; what was published before stays.
        SourceUnavailable: the warehouse does not answer.
        CheckError: the rules could not be judged; nothing was changed.
    """
    contract = contract_of(catalog, dataset)
    if window != catalog.window_of(contract, window.start):
        raise ValueError(f"{window.start.isoformat()} to {window.end.isoformat()} is not one window of {dataset}")
    suite = suite_of(contract)
    started = time.monotonic()
    look_elsewhere = False
    for attempt in range(_ATTEMPTS):
        try:
            with available("warehouse"), warehouse.connect() as connection, connection.begin() as transaction:
                take_window(connection, warehouse, dataset, window, owner, wait_seconds)
                check_holds(connection, dataset, window, incident_id)
                confirm_publish(connection, contract, window)
                inputs = read_inputs(connection, dataset, window)
                build = _build(connection, catalog, contract, window, inputs, look_elsewhere=look_elsewhere)
                results = suite.validate(build.measure())
                failpoint("publish.checked")
                refused = any(result.refuses for result in results)
                if not refused:
                    record_outside_change(connection, contract, window)
                counts = build.counts() if refused else build.publish(results)
                store_decision(connection, dataset, window, inputs, counts, results, owner, root_run_id)
                failpoint("publish.before_commit")
                transaction.commit()
                failpoint("publish.after_commit")
        except DBAPIError as error:
            if attempt + 1 == _ATTEMPTS or not (key_is_published_elsewhere(error) or was_overtaken(error)):
                raise
            look_elsewhere = look_elsewhere or key_is_published_elsewhere(error)
            continue
        except InputsMoved:
            if attempt + 1 == _ATTEMPTS:
                told = "its inputs are published faster than it can be built; it stays stale and is tried again"
                raise WindowOwned(f"{dataset} {window.start.isoformat()}: {told}") from None
            continue
        if refused:
            raise RefusedByRules(dataset, window, results)
        return _published(dataset, window, inputs, counts, results, time.monotonic() - started)
    raise AssertionError("the last attempt returns or raises")


def contract_of(catalog: Catalog, dataset: str) -> Contract:
    """Return the contract of a landed dataset or a mart; ValueError if there is none."""
    if dataset in catalog.landed:
        return catalog.landed[dataset]
    if dataset in catalog.marts:
        return catalog.marts[dataset].contract
    raise ValueError(f"no dataset {dataset!r}; one of {', '.join([*catalog.landed, *catalog.marts])}")


@lru_cache(maxsize=1000)
def suite_of(contract: Contract) -> ContractSuite:
    """Return the suite that judges the dataset's windows; the first one of a process loads the check library."""
    return ContractSuite(contract.name, window_rules(contract))


def _build(
    connection: Connection,
    catalog: Catalog,
    contract: Contract,
    window: TimeWindow,
    inputs: WindowInputs,
    *,
    look_elsewhere: bool,
) -> Build:
    if isinstance(contract, MartContract):
        mart = catalog.marts[contract.name]
        return MartBuild(connection, catalog, mart, window, inputs, look_elsewhere=look_elsewhere)
    return RawBuild(connection, catalog, contract, window, inputs, look_elsewhere=look_elsewhere)


def _published(
    dataset: str,
    window: TimeWindow,
    inputs: WindowInputs,
    counts: WindowCounts,
    results: tuple[RuleResult, ...],
    seconds: float,
) -> PublishedWindow:
    return PublishedWindow(
        dataset=dataset,
        window=window,
        version=inputs.version,
        rows=counts.rows,
        changed_rows=counts.changed_rows,
        duplicates=counts.duplicates,
        dead_letters=counts.dead_letters,
        quarantined=counts.quarantined,
        offsets=inputs.spans,
        results=results,
        seconds=seconds,
    )
