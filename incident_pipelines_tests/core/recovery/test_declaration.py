"""Where originals can be read again is declared in files; a mistake is told with file and line."""

from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines_tests.builders import CHANGES_YAML, EVENTS_YAML, write_catalog

CATALOG = "name: shop\nstart: 2026-01-01T00:00:00Z\nsources: {till: TILL_URL}\n"
ORDERS = """\
dataset: orders
database_extract:
  source: till
  sql: orders.sql
  kept: 30d
audit_log:
  location: TILL_LOG
  file: orders-{day}.jsonl
  key: key
control_totals:
  source: till
  sql: totals.sql
"""
SELECT = (
    "SELECT event_id, at AS event_time, id AS key, value, written_at FROM outbox "
    "WHERE at >= :window_start AND at < :window_end"
)
TOTALS = "SELECT minute, events FROM totals WHERE minute >= :window_start AND minute < :window_end"


def load(folder: Path, text: str, select: str = SELECT, totals: str = TOTALS, **more: str) -> Catalog:
    """Load a catalog with one declaration, and further ones by file name."""
    contract = EVENTS_YAML.format(name="orders", topic="orders").replace(
        "customProperties:\n",
        "customProperties:\n- {property: recoverySources, value: [landing_log, audit_log, database_extract]}\n",
    )
    files = {f"recovery/{name}.yaml": content for name, content in {"orders": text, **more}.items()}
    variables = write_catalog(folder, {"orders.yaml": contract, "customers.yaml": CHANGES_YAML, **files}, CATALOG)
    (folder / "sql" / "recovery").mkdir(parents=True, exist_ok=True)
    (folder / "sql" / "recovery" / "orders.sql").write_text(select, encoding="utf-8")
    (folder / "sql" / "recovery" / "totals.sql").write_text(totals, encoding="utf-8")
    return load_catalog(variables)


def test_what_is_declared_is_what_is_read(tmp_path: Path) -> None:
    declared = load(tmp_path, ORDERS).recoveries["orders"]
    assert declared.database_extract is not None
    assert declared.database_extract.kept == timedelta(days=30)
    assert declared.audit_log is not None
    assert (declared.audit_log.value, declared.audit_log.key, declared.audit_log.late_days) == ("value", "key", 0)


def test_the_catalog_that_ships_declares_all_that_its_contracts_promise() -> None:
    catalog = load_catalog({})
    assert set(catalog.recoveries) == {"registrations", "payments", "page_views"}
    assert all(catalog.recoveries[name].audit_log for name in ("registrations", "payments"))
    assert all(catalog.recoveries[name].database_extract for name in ("registrations", "payments"))
    assert all(declared.control_totals for declared in catalog.recoveries.values())


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (
            ("dataset: orders", "dataset: orderz"),
            1,
            "dataset: 'orderz' is no event stream of a contract; one of orders",
        ),
        (("dataset: orders", "dataset: customers"), 1, "is no event stream"),
        (("dataset: orders\n", ""), 1, "dataset: is missing"),
        (("  source: till\n  sql: orders.sql", "  source: bank\n  sql: orders.sql"), 3, "source 'bank' is not in"),
        (("sql: orders.sql", "sql: order.sql"), 4, "sql/recovery/order.sql is missing"),
        (("sql: orders.sql", "sql: ../orders.sql"), 4, "must match"),
        (("sql: orders.sql", "sql: totals.sql"), 4, "must return event_id, event_time, key, value, written_at"),
        (("kept: 30d", "kept: 30"), 5, "a duration is expected"),
        (("location: TILL_LOG", "location: /var/log"), 7, "must match"),
        (("file: orders-{day}.jsonl", "file: orders.jsonl"), 8, "must match"),
        (("file: orders-{day}.jsonl", "file: ../ground_truth/{day}.bin"), 8, "must match"),
        (("file: orders-{day}.jsonl", "file: .{day}"), 8, "must match"),
        (("  key: key", "  late_days: -1"), 9, "greater than or equal to 0"),
        (("  key: key", "  keys: key"), 9, "audit_log.keys: not known"),
        (("sql: totals.sql", "sql: orders.sql"), 12, "must return minute, events; events, minute is missing"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, change: tuple[str, str], line: int, said: str) -> None:
    assert change[0] in ORDERS
    with pytest.raises(InvalidDocument) as error:
        load(tmp_path, ORDERS.replace(*change, 1))
    assert str(error.value).startswith(f"recovery/orders.yaml:{line}: "), error.value
    assert said in str(error.value)


def test_a_source_that_the_contract_does_not_name_is_refused(tmp_path: Path) -> None:
    contract = EVENTS_YAML.format(name="orders", topic="orders")
    with pytest.raises(InvalidDocument, match=r"recovery/orders\.yaml:2: database_extract: the contract of orders"):
        load(tmp_path, ORDERS, **{"../contracts/orders": contract})


def test_two_of_one_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match=r"second\.yaml:1: dataset: 'orders' is declared in recovery/orders"):
        load(tmp_path, ORDERS, orders_second=ORDERS)


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("DELETE FROM outbox", "sql/recovery/orders.sql:1: one SELECT is expected"),
        ("SELECT * FROM outbox WHERE at >= :window_start AND at < :window_end", "columns are to be named"),
        (SELECT.replace(" AND at < :window_end", ""), "must select by :window_start and :window_end"),
        (SELECT.replace(", written_at", ""), "written_at is missing"),
    ],
)
def test_reviewed_sql_is_one_select_of_a_window(tmp_path: Path, select: str, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        load(tmp_path, ORDERS, select)
