"""`init` writes a catalog that loads as it is, or nothing."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.cli import app
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.stages.start_catalog import WantedTable, start_catalog
from incident_pipelines_tests.conftest import Databases

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _variables(folder: Path) -> dict[str, str]:
    return {"INCIDENT_PIPELINES_CATALOG": str(folder), "INCIDENT_PIPELINES_SQL": str(folder / "sql")}


def test_an_empty_folder_becomes_a_catalog_that_loads(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "my shop-2")])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "my shop-2"
    catalog = load_catalog(_variables(folder))
    assert (catalog.name, catalog.mode, dict(catalog.landed)) == ("my_shop_2", "propose", {})
    assert "'" in (folder / ".env.example").read_text().splitlines()[1]  # a folder with a space is quoted


def test_the_examples_are_right_once_they_are_copied(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    start_catalog(folder, "shop", [], [], {}, NOW)
    for file in list(folder.rglob("*.example")):
        if file.name != ".env.example":
            shutil.copy(file, file.with_suffix(""))
    main = folder / "catalog.yaml"
    main.write_text(main.read_text().replace("  {}", "  shop: SHOP_DATABASE_URL"))
    contract = folder / "contracts" / "events.yaml"
    contract.write_text(contract.read_text().replace("[landing_log, kafka]", "[landing_log, kafka, database_extract]"))
    catalog = load_catalog(_variables(folder))
    assert set(catalog.marts) == {"daily_orders"}
    assert set(catalog.reconciliations) == {"shop_orders"}
    assert set(catalog.recoveries) == {"orders"}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IncidentPipelinesError, match=r"is not empty: notes.txt; nothing was written"):
        start_catalog(tmp_path, "shop", [], [], {}, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_url_in_place_of_its_variable_is_not_repeated(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "shop"), "--table", "postgresql://me:secret@h/d::orders"])
    assert "secret" not in f"{done.output}{done.exception}"
    assert "not the URL" in str(done.exception)


@pytest.mark.stack
def test_a_table_becomes_its_contract(databases: Databases, tmp_path: Path) -> None:
    environment = {"BANK_DATABASE_URL": databases.url("app")}
    with psycopg.connect(driver_url(databases.url("app"))) as bank:
        # As pgbench makes it.
        bank.execute(
            "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))"
        )
        bank.execute("CREATE TYPE colour AS ENUM ('red', 'green')")
        bank.execute(
            "CREATE TABLE shown (id uuid PRIMARY KEY, code varchar(8) UNIQUE, price numeric(10,4) NOT NULL, "
            "much numeric, ratio double precision, ok boolean, day date, tint colour, "
            'doc jsonb, "Odd" int, updated_at timestamptz)'
        )
    history = WantedTable("BANK_DATABASE_URL", "public", "pgbench_history", "mtime", "mtime")
    with pytest.raises(IncidentPipelinesError, match=r"public.pgbench_history has no primary key.*ALTER TABLE"):
        start_catalog(tmp_path / "bank", "bank", [history], [], environment, NOW)
    with pytest.raises(IncidentPipelinesError, match=r"BANK_DATABASE_URL has no table public\.nothing"):
        start_catalog(
            tmp_path / "bank", "bank", [WantedTable("BANK_DATABASE_URL", "public", "nothing")], [], environment, NOW
        )
    with pytest.raises(IncidentPipelinesError, match="BANK_DATABASE_URL is not set"):
        start_catalog(tmp_path / "bank", "bank", [history], [], {}, NOW)
    assert not (tmp_path / "bank").exists()

    with psycopg.connect(driver_url(databases.url("app"))) as bank:
        bank.execute(
            "ALTER TABLE pgbench_history ADD COLUMN history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        )
    tables = [history, WantedTable("BANK_DATABASE_URL", None, "shown")]
    started = start_catalog(tmp_path / "bank", "bank", tables, [], environment, NOW)
    assert started.variables == ("BANK_DATABASE_URL",)
    catalog = load_catalog(_variables(started.folder))
    assert catalog.start == datetime(2026, 11, 14, tzinfo=UTC)
    assert catalog.sources == {"bank": "BANK_DATABASE_URL"}
    landed = catalog.landed["bank_pgbench_history"]
    assert isinstance(landed, RowsContract)
    assert landed.origin == TableSource("bank", "public", "pgbench_history", "mtime")
    assert (landed.primary_key, landed.time_column) == (("history_id",), "mtime")
    assert {column.name: column.sql_type for column in landed.columns} == {
        "tid": "bigint", "bid": "bigint", "aid": "bigint", "delta": "bigint",
        "mtime": "timestamp with time zone", "filler": "text", "history_id": "bigint",
    }  # fmt: skip
    shown = catalog.landed["bank_shown"]
    assert shown.time_column is None
    assert {column.name: column.sql_type for column in shown.columns} == {
        "id": "uuid", "code": "text", "price": "numeric(10,4)", "much": "numeric(38,10)", "ratio": "numeric(38,10)",
        "ok": "boolean", "day": "date", "tint": "text", "updated_at": "timestamp with time zone",
    }  # fmt: skip
    assert shown.column("code").unique
    assert shown.column("code").max_length == 8
    assert shown.column("tint").allowed == ("red", "green")
    assert "postgres@" not in "".join(path.read_text() for path in started.folder.rglob("*") if path.is_file())
