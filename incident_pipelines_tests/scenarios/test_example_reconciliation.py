"""The example reconciles without a difference when it is healthy, and names exactly what was taken from it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.example.databases import create_tables
from incident_pipelines.example.log_append import landing_log
from incident_pipelines.example.prepare import load_history
from incident_pipelines.example.settings import settings_from
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication.publish import PublishedWindow, publish_window
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines.stages.reconciliation.clearing import clearing_balances
from incident_pipelines.stages.reconciliation.reconcile import Reconciled, reconcile
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

HISTORY = timedelta(hours=30)  # over at least one midnight


class Example:
    """The example's history of a day and more, everywhere it belongs."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self.databases = databases
        self.now = datetime.now(UTC)
        start = TimeWindow.hour_of(self.now - HISTORY).start
        environment = {
            **databases.environment("owner"),
            "EXAMPLE_RATE": "0.05",
            "INCIDENT_PIPELINES_HOME": str(folder),
            "INCIDENT_PIPELINES_START": start.isoformat(),
        }
        self.catalog: Catalog = prepare(environment)
        create_tables(settings_from(environment))
        with landing_log(environment) as append:
            load_history(environment, append, self.now, lambda text: None)
        warehouse = postgres_engine(databases.url("warehouse", "publisher"), "test")
        for dataset, source in (("app_plans", "app"), ("app_registrations", "app"), ("billing_payments", "billing")):
            engine = postgres_engine(databases.url(source, "source_reader"), "test")
            contract = self.catalog.landed[dataset]
            assert isinstance(contract, RowsContract)
            extract_changes(engine, warehouse, self.catalog, contract, now=datetime.now(UTC))
            engine.dispose()
        while stale_windows(warehouse, self.catalog):
            for outcome in refresh(warehouse, self.catalog, owner="test"):
                assert isinstance(outcome, PublishedWindow), outcome
        warehouse.dispose()
        self.variables = databases.environment("publisher")
        # History is written now, whenever it happened: rows that are unfinished are looked at after their grace.
        self.as_of = datetime.now(UTC) + timedelta(minutes=30)

    def reconcile(self, name: str, hour: TimeWindow | None = None) -> Reconciled:
        """Reconcile as the role that does it in the stack."""
        control = postgres_engine(self.databases.url("control", "publisher"), "test")
        try:
            return reconcile(
                self.catalog, control, name, hour, as_of=self.as_of, owner="test", environment=self.variables
            )
        finally:
            control.dispose()

    def differing(self, name: str) -> set[str]:
        """Return the key of each open difference."""
        found = query(
            self.databases.url("control"),
            "SELECT key FROM reconciliation.differences WHERE reconciliation = %s AND resolved_at IS NULL",
            name,
        )
        return {next(iter(key.values())) for (key,) in found}


@pytest.fixture(scope="module")
def example(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return Example(databases, tmp_path_factory.mktemp("example"))


def test_three_pairs_are_declared() -> None:
    assert set(load_catalog({}).reconciliations) == {"app_billing", "billing_warehouse", "app_warehouse"}


@pytest.mark.parametrize("name", ["app_billing", "billing_warehouse", "app_warehouse"])
def test_a_healthy_example_has_no_difference(example: Example, name: str) -> None:
    full = example.reconcile(name)
    assert min(full.counts.source, full.counts.target) > 1_000
    assert full.open_in_flight == 0
    # Nobody goes on with what the history left unfinished: only that may differ after its grace.
    unfinished = query(example.databases.url("app"), "SELECT registration_id::text FROM sign_up_flows")
    assert example.differing(name) <= {one for (one,) in unfinished}, full.statement
    hour = TimeWindow.hour_of(example.now - 5 * HOUR)
    hourly = example.reconcile(name, hour)
    assert hourly.counts.source > 0
    assert (hourly.counts.differences, hourly.verdict) == (0, "ok"), hourly.statement


def test_an_hour_of_a_mart_is_found_by_an_index(example: Example) -> None:
    found = query(
        example.databases.url("warehouse"),
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'marts' AND tablename = 'registrations_final'",
    )
    assert any(definition.endswith("(submitted_at)") for (definition,) in found)


def test_captures_are_activated(example: Example) -> None:
    measured = example.reconcile("app_billing").join_rate
    assert measured is not None
    assert measured.rate is not None
    assert measured.total > 1_000
    assert measured.rate >= 0.99  # 99.89 % are drawn; a small day may hold one late account more than 0.2 %


def test_a_stage_that_waits_is_counted(example: Example) -> None:
    (flow,) = example.catalog.clearings.values()
    balances = clearing_balances(example.catalog, example.variables, flow, example.now)
    assert {one.stage.name for one in balances} == {stage.name for stage in flow.stages}
    assert sum(one.items for one in balances if one.stage.name == "captured_not_in_final") == 0
    url = example.databases.url("warehouse")
    taken = query(
        url,
        "DELETE FROM marts.registrations_final WHERE registration_id = (SELECT registration_id FROM "
        "marts.registrations_final WHERE captured_at IS NOT NULL LIMIT 1) RETURNING amount, currency",
    )
    try:
        after = clearing_balances(example.catalog, example.variables, flow, example.now + timedelta(hours=1))
        left = [one for one in after if one.stage.name == "captured_not_in_final"]
        assert [(one.items, one.money, one.currency, one.overdue) for one in left] == [(1, *taken[0], 1)]
        missing = example.reconcile("app_warehouse")
        assert (missing.counts.missing, missing.counts.differences) == (1, 1)
        assert missing.money == {taken[0][1]: taken[0][0]}
    finally:
        warehouse = postgres_engine(example.databases.url("warehouse", "publisher"), "test")
        _publish_marts(warehouse, example.catalog)
        warehouse.dispose()
    assert example.reconcile("app_warehouse").resolved == 1


def _publish_marts(warehouse: Engine, catalog: Catalog) -> None:
    day = TimeWindow.day_of(catalog.start)
    while day.start < datetime.now(UTC):
        publish_window(warehouse, catalog, "registrations_final", day, owner="test")
        day = TimeWindow.day_of(day.end)


@pytest.mark.parametrize(
    ("purpose", "statement", "name", "kind"),
    [
        ("warehouse", "DELETE FROM raw.payments WHERE event_id = '{event}'", "billing_warehouse", "missing"),
        (
            "billing",
            "UPDATE payments SET amount = amount + 1 WHERE payment_id = '{payment}'",
            "app_billing",
            "mismatched",
        ),
        (
            "billing",
            "UPDATE payments SET status = 'authorized' WHERE payment_id = '{payment}'",
            "billing_warehouse",
            "unexpected",
        ),
    ],
)
def test_what_was_taken_is_named(example: Example, purpose: str, statement: str, name: str, kind: str) -> None:
    event, payment, registration = query(
        example.databases.url("warehouse"),
        "SELECT event_id::text, payment_id::text, registration_id::text FROM raw.payments "
        "WHERE event_type = 'payment_captured' ORDER BY md5(event_id::text || %s) LIMIT 1",
        statement,
    )[0]
    before = example.reconcile(name)
    query(example.databases.url(purpose), statement.format(event=event, payment=payment))
    after = example.reconcile(name)
    assert (after.opened, after.counts.differences) == (1, before.counts.differences + 1)
    found = query(
        example.databases.url("control"),
        "SELECT kind, key FROM reconciliation.differences WHERE reconciliation = %s AND resolved_at IS NULL",
        name,
    )
    named = payment if name == "billing_warehouse" else registration
    assert (kind, named) in {(one, next(iter(key.values()))) for one, key in found}
