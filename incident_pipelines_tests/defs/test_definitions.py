"""What the code location holds, and that loading it touches nothing but files."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.publication import window_rules
from incident_pipelines.defs.specs import published_key
from incident_pipelines_tests.defs.shop import ORDERS, PRODUCTS, shop_definitions, shop_files
from incident_pipelines_tests.defs.snapshot import SNAPSHOT, text_of

_CATALOG_VARIABLES = ("INCIDENT_PIPELINES_START", "INCIDENT_PIPELINES_CATALOG", "INCIDENT_PIPELINES_SQL")
_ADDRESSES = (
    "WAREHOUSE_URL",
    "CONTROL_DATABASE_URL",
    "APP_DATABASE_URL",
    "BILLING_DATABASE_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "DAGSTER_HOME",
)

_LOAD = """
import sys
touched = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect"):
        touched.append((event, arguments))
sys.addaudithook(watch)
import psycopg, sqlalchemy, confluent_kafka
def refuse(*arguments, **options):
    raise AssertionError(f"loading connects: {arguments}")
psycopg.connect = psycopg.Connection.connect = sqlalchemy.create_engine = confluent_kafka.Consumer = refuse
from incident_pipelines.definitions import defs
assert len(list(defs.resolve_asset_graph().get_all_asset_keys())) > 0
assert not touched, touched
assert "great_expectations" not in sys.modules, "the check library is loaded before anything is checked"
"""


def test_definitions_are_those_that_were_reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in _CATALOG_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    from incident_pipelines.definitions import defs

    assert text_of(defs) == SNAPSHOT.read_text(encoding="utf-8"), (
        "definitions differ from definitions.json; if they should, run "
        "python -m incident_pipelines_tests.defs.snapshot and look at the difference"
    )


def test_loading_connects_to_nothing_and_needs_no_address() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in (*_CATALOG_VARIABLES, *_ADDRESSES)}
    loaded = subprocess.run([sys.executable, "-c", _LOAD], env=environment, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


def test_every_rule_that_judges_windows_is_a_check_that_blocks_nothing(tmp_path: Path) -> None:
    catalog = load_catalog(shop_files(tmp_path))
    graph = shop_definitions(catalog).resolve_asset_graph()
    for contract in (*catalog.landed.values(), *(mart.contract for mart in catalog.marts.values())):
        keys = graph.get_check_keys_for_assets({published_key(contract)})
        assert {key.name for key in keys} == {rule.name for rule in window_rules(contract)}
        assert not any(graph.get(key).blocking for key in keys)


def test_an_asset_shows_what_its_contract_says(tmp_path: Path) -> None:
    node = shop_definitions(load_catalog(shop_files(tmp_path))).resolve_asset_graph().get(PRODUCTS)
    assert node.description == "What can be ordered."
    assert node.owners == ["team:shop team"]
    assert node.code_version == "1.2.0"
    assert "consumer/finance" in node.tags
    title = next(c for c in node.metadata["dagster/column_schema"].columns if c.name == "title")
    assert title.tags == {"pii": ""}
    assert not title.constraints.nullable


def test_only_datasets_that_are_built_all_the_time_have_a_freshness_policy(tmp_path: Path) -> None:
    graph = shop_definitions(load_catalog(shop_files(tmp_path))).resolve_asset_graph()
    assert graph.get(PRODUCTS).freshness_policy is None
    assert graph.get(dg.AssetKey(["marts", "daily_orders"])).freshness_policy is not None
    assert graph.get(ORDERS).freshness_policy is None  # its contract promises none
