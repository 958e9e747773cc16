"""The asset of a raw dataset or a mart: publishes the windows of its partitions and reports each when it is done."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property

import dagster as dg
from sqlalchemy import Engine

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract, RowsContract, TableSource
from incident_pipelines.core.errors import CheckError, IncidentPipelinesError
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.events import check_result, materialization, materialize_result
from incident_pipelines.defs.partitions import partition_key, partitions_of, windows_of_keys
from incident_pipelines.defs.reporting import WindowReports
from incident_pipelines.defs.resources import PostgresResource, SourcesResource
from incident_pipelines.defs.specs import check_specs, published_key, published_spec, stage_of
from incident_pipelines.stages.landing.extract import extract_window
from incident_pipelines.stages.publication.backfill import AlreadyDone, publish_range
from incident_pipelines.stages.publication.figures import published_before, rule_verdicts
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Failed, Refused, Skipped

NotPublished = Refused | Skipped | Failed
_WINDOWS_SHOWN = 10
MAX_RETRIES = 1
RETRY_SECONDS = 15


def publishing_asset(catalog: Catalog, contract: Contract) -> dg.AssetsDefinition:
    """Return the asset of a dataset, with a check for each of its rules.

    With partitions it is a generator that yields no result for the asset: Dagster keeps nothing of a range run that was
    killed but what the run itself had logged, window by window. A dataset that is one window yields its result, which
    later steps of the run wait for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies and skippable assets are marked so

        @dg.multi_asset(
            name=f"{stage_of(contract)}__{contract.name}",
            specs=[published_spec(catalog, contract)],
            check_specs=check_specs(contract),
            can_subset=True,  # checks can be run without building anything
            backfill_policy=dg.BackfillPolicy.single_run(),
            # For a window that somebody else owns and a database that is away; a retry does what is not done.
            retry_policy=dg.RetryPolicy(max_retries=MAX_RETRIES, delay=RETRY_SECONDS),
        )
        def publish_windows(
            context: dg.AssetExecutionContext, warehouse: PostgresResource, sources: SourcesResource
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            yield from _Publication(catalog, contract, context, warehouse, sources).run()

    return publish_windows


class _Publication:
    """What one run does for one dataset."""

    def __init__(
        self,
        catalog: Catalog,
        contract: Contract,
        context: dg.AssetExecutionContext,
        warehouse: PostgresResource,
        sources: SourcesResource,
    ) -> None:
        self._catalog = catalog
        self._contract = contract
        self._context = context
        self._warehouse = warehouse
        self._sources = sources
        self._root_run_id = context.run.root_run_id or context.run_id
        self._owner = f"dagster run {context.run_id}"
        self._is_partitioned = partitions_of(catalog, contract) is not None
        self._not_published: list[NotPublished] = []

    def run(self) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Publish the windows that were asked for, then say how the rules stand.

        Raises:
            Failure: a window was refused or is somebody else's, or a database does not answer.
        """
        try:
            if self._context.selected_asset_keys:
                yield from self._publish()
            yield from self._checks()
        except IncidentPipelinesError as error:
            raise dg.Failure(str(error), allow_retries=self._may_retry) from error
        if self._not_published:
            raise self._failure()

    def _publish(self) -> Iterator[dg.MaterializeResult]:
        windows = self._windows()
        with (
            WindowReports(self._context.op_execution_context) as reports,
            self._warehouse.engine(self._owner) as warehouse,
            self._extraction(warehouse) as before,
        ):
            outcomes = publish_range(
                warehouse,
                self._catalog,
                self._contract.name,
                windows,
                root_run_id=self._root_run_id,
                owner=self._owner,
                before=before,
            )
            for number, outcome in enumerate(outcomes, start=1):
                progress = f"window {number} of {len(windows)}"
                match outcome:
                    case PublishedWindow():
                        published = outcome
                    case AlreadyDone():
                        published = published_before(warehouse, self._contract.name, outcome.window)
                    case Refused() | Skipped() | Failed():
                        self._context.log.warning(f"{progress} {outcome.window}: {outcome.message}")
                        self._not_published.append(outcome)
                        continue
                if not self._is_partitioned:
                    yield materialize_result(self._contract, published)
                elif outcome is published or not self._is_reported(published.window):
                    # Not reported and done: an earlier attempt was killed before it could say so.
                    reports.add(materialization(self._catalog, self._contract, published, progress))

    def _windows(self) -> Sequence[TimeWindow]:
        keys = self._context.partition_keys if self._is_partitioned else ()
        return windows_of_keys(self._catalog, self._contract, keys)

    @contextmanager
    def _extraction(self, warehouse: Engine) -> Iterator[Callable[[TimeWindow], None] | None]:
        """Give what reads a window of a source table into the log, for a dataset that has one."""
        contract = self._contract
        if not (isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource)):
            yield None
            return
        with self._sources.engine(contract.origin.source) as source:

            def extract(window: TimeWindow) -> None:
                extract_window(source, warehouse, self._catalog, contract, window, now=datetime.now(UTC))

            yield extract

    def _is_reported(self, window: TimeWindow) -> bool:
        return partition_key(self._catalog, self._contract, window) in self._reported

    @cached_property
    def _reported(self) -> frozenset[str | None]:
        """Partitions that this run, or an earlier attempt of it, has reported."""
        asset = published_key(self._contract)
        instance = self._context.instance
        group = instance.get_run_group(self._root_run_id)
        run_ids = {run.run_id for run in group[1]} if group else set[str]()
        return frozenset(
            entry.get_dagster_event().partition
            for run_id in run_ids | {self._context.run_id}
            for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            if entry.get_dagster_event().asset_key == asset
        )

    def _checks(self) -> Iterator[dg.AssetCheckResult]:
        """Yield how each rule that was asked for stands, over all windows of the dataset and not this run's alone."""
        asked = {key.name for key in self._context.selected_asset_check_keys}
        if not asked:
            return
        with self._warehouse.engine(self._owner) as warehouse:
            verdicts = rule_verdicts(warehouse, self._contract.name, asked)
        for verdict in verdicts:
            yield check_result(self._contract, verdict)
        unknown = sorted(asked - {verdict.rule for verdict in verdicts})
        if unknown:
            self._context.log.warning(f"no window has been checked yet for {', '.join(unknown)}")
            if not self._context.selected_asset_keys:
                raise CheckError(f"no window of {self._contract.name} has been checked yet for {', '.join(unknown)}")

    def _failure(self) -> dg.Failure:
        """Return the failure that names what is not published; a retry is worth it unless everything was refused."""
        shown = self._not_published[:_WINDOWS_SHOWN]
        more = len(self._not_published) - len(shown)
        lines = [f"{outcome.window}: {outcome.message}" for outcome in shown] + ([f"and {more} more"] if more else [])
        return dg.Failure(
            f"{len(self._not_published)} windows of {self._contract.name} were not published: {'; '.join(lines)}",
            metadata={
                "refused": self._named(Refused),
                "owned": self._named(Skipped),
                "failed": self._named(Failed),
            },
            allow_retries=self._may_retry and not all(isinstance(outcome, Refused) for outcome in self._not_published),
        )

    def _named(self, kind: type[NotPublished]) -> list[str]:
        return [str(outcome.window) for outcome in self._not_published if isinstance(outcome, kind)]

    @property
    def _may_retry(self) -> bool:
        """Whether this is not the last attempt: Dagster would hide that one's message behind a count of attempts."""
        return self._context.retry_number < MAX_RETRIES
