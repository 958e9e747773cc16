"""One file in the catalog is two assets with checks, jobs and schedules; what breaks is no failed check."""

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.stores.differences import AGE_NAMES
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.defs.reconciliation.assets import reconciliation_assets
from incident_pipelines.defs.reconciliation.clearing import CLEARING, clearing_definitions
from incident_pipelines.defs.reconciliation.events import GAP_CHECK
from incident_pipelines.defs.reconciliation.picture import ageing_picture
from incident_pipelines.defs.reconciliation.schedules import reconciliation_schedules
from incident_pipelines.defs.resources import resources_for
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.runs import environment, launch, materialized, range_tags
from incident_pipelines_tests.stages.reconciliation_shop import (
    NOON,
    TILL_BANK_YAML,
    Shop,
    open_shop,
    shop_files,
)

HOURLY = dg.AssetKey(["reconciliation", "till_bank"])
FULL = dg.AssetKey(["reconciliation", "till_bank_full"])
JOIN_RATE = """\
join_rate:
  name: sales_are_booked
  source: bank
  sql: booked.sql
  window: 365000d
  settled_after: 0s
"""
BOOKED_SQL = """\
SELECT count(*) AS total, count(amount) AS joined FROM public.bookings
WHERE booked_at >= :window_start AND booked_at < :window_end
"""
FLOW = """\
name: sales
owner: finance
stages:
- {name: not_booked, source: bank, sql: not_booked.sql, clears_within: 1h}
"""
NOT_BOOKED_SQL = "SELECT sale_id AS item, booked_at AS since, amount, currency FROM bookings WHERE note IS NULL"


def definitions(catalog: Catalog) -> dg.Definitions:
    """Return the definitions as the code location has them, for another catalog."""
    return dg.Definitions.merge(
        dg.Definitions(
            assets=reconciliation_assets(catalog),
            resources=resources_for(catalog),
            executor=dg.in_process_executor,
        ),
        reconciliation_schedules(catalog),
        clearing_definitions(catalog),
    )


def with_sql(folder: Path) -> None:
    """Write the statements that the catalog of these tests names."""
    (folder / "sql" / "reconciliation").mkdir(parents=True, exist_ok=True)
    (folder / "sql" / "reconciliation" / "booked.sql").write_text(BOOKED_SQL, encoding="utf-8")
    (folder / "sql" / "reconciliation" / "not_booked.sql").write_text(NOT_BOOKED_SQL, encoding="utf-8")
    (folder / "clearing").mkdir(exist_ok=True)
    (folder / "clearing" / "sales.yaml").write_text(FLOW, encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path, own_databases: Databases) -> Iterator[Shop]:
    with_sql(tmp_path)
    shop = open_shop(tmp_path, own_databases, TILL_BANK_YAML + JOIN_RATE)
    with environment({**shop.variables, "WAREHOUSE_URL": "postgresql://not.needed.invalid/x"}):
        yield shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any]:
    """Return the evaluations of a run by name."""
    logged = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]
    return {evaluation.check_name: evaluation for evaluation in found}


def metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, Any]:
    """Return the metadata of the last materialization."""
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return {
        name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in event.asset_materialization.metadata.items()
    }


def test_adding_a_file_adds_assets_checks_jobs_and_schedules(tmp_path: Path) -> None:
    variables = shop_files(tmp_path)
    (tmp_path / "reconciliations" / "till_bank.yaml").unlink()
    without = definitions(load_catalog(variables)).resolve_asset_graph()
    assert not list(without.get_all_asset_keys())
    shop_files(tmp_path)
    defs = definitions(load_catalog(variables))
    graph = defs.resolve_asset_graph()
    assert {HOURLY, FULL} <= set(graph.get_all_asset_keys())
    assert isinstance(graph.get(HOURLY).partitions_def, dg.HourlyPartitionsDefinition)
    assert graph.get(FULL).partitions_def is None
    assert graph.get(HOURLY).owners == ["team:finance"]
    assert graph.get(HOURLY).parent_keys == {dg.AssetKey(["till", "sales"]), dg.AssetKey(["bank", "bookings"])}
    for key in (HOURLY, FULL):
        assert {check.name for check in graph.get_check_keys_for_assets({key})} == {GAP_CHECK}
    repository = defs.get_repository_def()
    schedules = {one.name: (one.cron_schedule, one.default_status) for one in repository.schedule_defs}
    assert schedules == {
        "reconcile_till_bank_every_hour": ("20 * * * *", dg.DefaultScheduleStatus.RUNNING),
        "reconcile_till_bank_every_night": ("40 2 * * *", dg.DefaultScheduleStatus.RUNNING),
    }
    assert {"reconcile_till_bank", "reconcile_till_bank_full"} <= {job.name for job in repository.get_all_jobs()}


def test_without_a_time_column_there_are_no_hours(tmp_path: Path) -> None:
    text = "\n".join(line for line in TILL_BANK_YAML.splitlines() if not line.startswith(("time:", "changed:")))
    defs = definitions(load_catalog(shop_files(tmp_path, text)))
    assert HOURLY not in set(defs.resolve_asset_graph().get_all_asset_keys())
    assert [one.name for one in defs.get_repository_def().schedule_defs] == ["reconcile_till_bank_every_night"]


@pytest.mark.parametrize(
    ("grace", "at", "partition"),
    [("10m", "13:20", "2026-03-01-12:00"), ("30m", "13:20", "2026-03-01-11:00"), ("3h", "13:20", "2026-03-01-09:00")],
)
def test_the_schedule_asks_for_the_last_hour_that_has_settled(
    tmp_path: Path, grace: str, at: str, partition: str
) -> None:
    catalog = load_catalog(shop_files(tmp_path, TILL_BANK_YAML.replace("grace: 10m", f"grace: {grace}")))
    repository = definitions(catalog).get_repository_def()
    schedule = repository.get_schedule_def("reconcile_till_bank_every_hour")
    tick = datetime.fromisoformat(f"2026-03-01T{at}:00+00:00")
    with dg.build_schedule_context(repository_def=repository, scheduled_execution_time=tick) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key == partition
    tick = datetime(2026, 3, 1, 0, 20, tzinfo=UTC)
    with dg.build_schedule_context(repository_def=repository, scheduled_execution_time=tick) as context:
        assert not schedule.evaluate_tick(context).run_requests


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_an_hour_shows_its_numbers_rows_and_ageing(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    shop.bank("UPDATE bookings SET customer = 'somebody else' WHERE sale_id = 80")
    run = launch(instance, definitions(shop.catalog), [HOURLY], range_tags("2026-03-01-12:00", "2026-03-01-12:00"))
    assert run.is_success
    assert materialized(instance, HOURLY) == ["2026-03-01-12:00"]
    found = metadata(instance, HOURLY)
    assert (found["source_rows"], found["target_rows"]) == (60, 59)
    assert (found["missing"], found["unexpected"], found["mismatched"]) == (1, 0, 1)
    assert found["gap_rate"] == pytest.approx(2 / 60)
    assert found["money_at_stake_EUR"] == 150.0
    assert "reconciliation = 'till_bank'" in found["differences_sql"]
    assert found["ageing"].startswith("![ageing](data:image/svg+xml;base64,")
    samples = [record.data for record in found["differences"]]
    assert {(one["kind"], one["key"]) for one in samples} == {("missing", "sale_id 70"), ("mismatched", "sale_id 80")}
    shown = next(one["source | target"] for one in samples if one["kind"] == "mismatched")
    assert shown == "customer: cu… | so…", "personal data is masked"
    gap = checks(instance, run)[GAP_CHECK]
    assert (gap.passed, gap.severity) == (False, dg.AssetCheckSeverity.ERROR)
    joined = checks(instance, run)["sales_are_booked"]
    assert (joined.passed, joined.metadata["joinable"].value) == (True, 179)


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_a_range_of_hours_is_one_run(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.sell(180)
    run = launch(instance, definitions(shop.catalog), [HOURLY], range_tags("2026-03-01-11:00", "2026-03-01-13:00"))
    assert run.is_success
    assert materialized(instance, HOURLY) == ["2026-03-01-11:00", "2026-03-01-12:00", "2026-03-01-13:00"]
    assert checks(instance, run)[GAP_CHECK].passed


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_everything_warns_fails_and_recovers_by_the_thresholds(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.sell(1_000)
    defs = definitions(shop.catalog)

    def verdict() -> tuple[bool, dg.AssetCheckSeverity]:
        run = launch(instance, defs, [FULL], {})
        assert run.is_success, "a check that fails fails nothing else"
        found = checks(instance, run)[GAP_CHECK]
        return found.passed, found.severity

    assert verdict()[0]
    shop.bank("DELETE FROM bookings WHERE sale_id <= 2")
    assert verdict() == (False, dg.AssetCheckSeverity.WARN)
    shop.bank("DELETE FROM bookings WHERE sale_id <= 3")
    assert verdict() == (False, dg.AssetCheckSeverity.ERROR)
    shop.till("DELETE FROM sales WHERE sale_id <= 3")
    assert verdict()[0]
    assert metadata(instance, FULL)["resolved"] == 3


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_a_join_rate_below_its_minimum_fails(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.sell(1_000)
    shop.till("UPDATE sales SET amount = NULL WHERE sale_id <= 3")
    shop.bank("UPDATE bookings SET amount = NULL WHERE sale_id <= 3")
    run = launch(instance, definitions(shop.catalog), [FULL], {})
    joined = checks(instance, run)["sales_are_booked"]
    assert (joined.passed, joined.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert joined.metadata["join_rate"].value == pytest.approx(0.997)
    assert checks(instance, run)[GAP_CHECK].passed


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_a_source_that_is_down_fails_the_run_and_no_check(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incident_pipelines.defs.reconciliation.assets.MAX_RETRIES", 0)
    shop.sell(10)
    with environment({"BANK_URL": "postgresql://nobody@127.0.0.1:1/nothing"}):
        run = launch(instance, definitions(shop.catalog), [FULL], {})
    assert run.is_failure
    assert not checks(instance, run)
    assert not materialized(instance, FULL)


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_clearing_shows_what_is_left(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.sell(10)
    assert launch(instance, definitions(shop.catalog), [CLEARING], {}).is_success
    assert metadata(instance, CLEARING)["not_booked"] == 0
    shop.bank("UPDATE bookings SET note = NULL WHERE sale_id IN (3, 4)")
    shop.bank("UPDATE bookings SET booked_at = now() WHERE sale_id = 4")
    assert launch(instance, definitions(shop.catalog), [CLEARING], {}).is_success
    found = metadata(instance, CLEARING)
    (balance,) = (record.data for record in found["balances"])
    assert (balance["not cleared"], balance["money"], balance["currency"]) == (2, 7.0, "EUR")
    assert (balance["overdue"], balance["overdue money"]) == (1, 3.0)
    assert balance["oldest (minutes)"] >= (datetime.now(UTC) - NOON - timedelta(days=1)).total_seconds() / 60
    assert (found["overdue"], found["overdue_money_EUR"]) == (1, 3.0)


def test_the_picture_is_an_image_small_enough_to_be_shown_at_once() -> None:
    ages = {
        (kind, explanation): [10**9 + 7, 5, 0, 10**8, 10**9]
        for kind in ("missing", "unexpected", "mismatched")
        for explanation in ("unexplained", "in_flight", "incident")
    }
    assert len(ageing_picture(ages, AGE_NAMES)) < 1_000
    picture = ageing_picture(
        {("missing", "unexplained"): [3, 0], ("mismatched", "in_flight"): [1, 2]}, ("young", "old")
    )
    found = re.fullmatch(r"!\[ageing\]\(data:image/svg\+xml;base64,(.*)\)", picture)
    assert found
    shapes = list(ElementTree.fromstring(base64.b64decode(found[1])).iter())
    assert [shape.text for shape in shapes if shape.tag.endswith("text")][:2] == ["young: 4", "old: 2"]
    red, grey = (re.findall(r"M(\d+) \d+h(\d+)", shape.get("d", "")) for shape in shapes if shape.tag.endswith("path"))
    assert red == [("150", "202")]
    assert grey == [("352", "68"), ("150", "135")]
