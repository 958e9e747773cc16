"""Published tables say who changed how much, and refuse a statement that touches too much."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.databases.protection import FLOOR_ROWS
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import EVENTS_YAML, orders_catalog
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack

ROWS = 1_000
INSERT = (
    "INSERT INTO raw.orders SELECT gen_random_uuid(), 'ordered', '1', 'o', 1, NULL, "
    "'2026-03-01'::timestamptz + n * interval '1 second', 1, 0, n FROM generate_series(1, %s) n"
)
CHANGES = (
    "SELECT table_name, statement, rows, user_name, application_name, host(client_address), confirmed, publishing "
    "FROM protection.changes ORDER BY change_id"
)
Connection = psycopg.Connection[Any]


@pytest.fixture
def orders(own_databases: Databases, tmp_path: Path) -> Iterator[Connection]:
    """The owner's connection to a warehouse with 1,000 orders and no record of changes yet."""
    catalog, _ = orders_catalog(tmp_path / "catalog")
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    with connect(own_databases, "postgres") as connection:
        connection.execute(INSERT, (ROWS,))
        connection.execute("DELETE FROM protection.changes")
        yield connection


def connect(databases: Databases, role: str) -> Connection:
    return psycopg.connect(
        driver_url(databases.url("warehouse", role)), autocommit=True, application_name=f"{role} by hand"
    )


def changes(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(CHANGES).fetchall()


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM raw.orders").fetchone()
    assert row
    return row[0]


def test_who_changed_how_much_is_recorded(orders: Connection, own_databases: Databases) -> None:
    with connect(own_databases, "publisher") as publisher:
        publisher.execute("DELETE FROM raw.orders WHERE landing_position <= 7")
        publisher.execute("UPDATE raw.orders SET amount = 2 WHERE landing_position BETWEEN 11 AND 50")
        publisher.execute(INSERT, (3,))
        publisher.execute("DELETE FROM raw.orders WHERE landing_position = 0")  # nothing
        with publisher.transaction(force_rollback=True):
            publisher.execute(INSERT, (3,))
        publisher.execute(
            "MERGE INTO raw.orders t USING (VALUES (8, 'd'), (9, 'u'), (10, 'u')) s (n, what) ON landing_position = n "
            "WHEN MATCHED AND what = 'd' THEN DELETE WHEN MATCHED THEN UPDATE SET amount = 3"
        )
    who = ("publisher", "publisher by hand", "127.0.0.1", False, None)
    assert changes(orders) == [
        ("raw.orders", "DELETE", 7, *who),
        ("raw.orders", "UPDATE", 40, *who),
        ("raw.orders", "INSERT", 3, *who),
        ("raw.orders", "DELETE", 1, *who),
        ("raw.orders", "UPDATE", 2, *who),
    ]


@pytest.mark.parametrize("statement", ["DELETE FROM raw.orders", "UPDATE raw.orders SET amount = 2"])
def test_a_statement_past_the_share_is_refused_unless_confirmed(orders: Connection, statement: str) -> None:
    kind = statement.split()[0]
    limit = ROWS * 5 // 100
    with pytest.raises(psycopg.errors.RaiseException) as refused:
        orders.execute(f"{statement} WHERE landing_position <= {limit + 1}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert f"{kind} was about to touch 51 of 1000 rows of raw.orders (5.10 %)" in str(refused.value)
    assert "one statement may touch 5 % of them" in str(refused.value)
    (command,) = re.findall(r"SET incident_pipelines\.confirmed = '[a-z._]+'", str(refused.value))
    assert count(orders) == ROWS
    assert changes(orders) == []
    with orders.transaction(force_rollback=True):
        orders.execute(f"{statement} WHERE landing_position <= {limit}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert [row[1:3] for row in changes(orders)] == [(kind, limit)]
    orders.execute("SET incident_pipelines.confirmed = 'raw.payments'")  # of another table
    with pytest.raises(psycopg.errors.RaiseException):
        orders.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
    orders.execute(command)
    orders.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert changes(orders) == [
        ("raw.orders", kind, ROWS, "postgres", "postgres by hand", "127.0.0.1", True, None),
    ]


def test_truncate_is_refused_unless_confirmed(orders: Connection) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="TRUNCATE was about to touch 1000 of 1000 rows"):
        orders.execute("TRUNCATE raw.orders")
    with pytest.raises(psycopg.errors.RaiseException):
        orders.execute("TRUNCATE landing.orders, raw.orders")
    assert count(orders) == ROWS
    with orders.transaction():
        orders.execute("SET LOCAL incident_pipelines.confirmed = 'raw.orders'")
        orders.execute("TRUNCATE raw.orders")
    assert changes(orders) == [
        ("raw.orders", "TRUNCATE", ROWS, "postgres", "postgres by hand", "127.0.0.1", True, None)
    ]
    orders.execute("TRUNCATE raw.orders")  # empty, and the confirmation ended with its transaction


def test_a_few_rows_of_a_small_table_may_always_be_changed(orders: Connection) -> None:
    with orders.transaction():
        orders.execute("SET LOCAL incident_pipelines.confirmed = 'raw.orders'")
        orders.execute("DELETE FROM raw.orders WHERE landing_position > %s", (FLOOR_ROWS + 1,))
    with pytest.raises(psycopg.errors.RaiseException):
        orders.execute("UPDATE raw.orders SET amount = 5")
    orders.execute("DELETE FROM raw.orders WHERE landing_position = 1")
    orders.execute("UPDATE raw.orders SET amount = 5")
    orders.execute("DELETE FROM raw.orders")
    assert count(orders) == 0


def test_nobody_but_its_owner_alters_the_record(orders: Connection, own_databases: Databases) -> None:
    orders.execute("DELETE FROM raw.orders WHERE landing_position = 1")
    recorded = changes(orders)
    for role in ("publisher", "monitor", "lander"):
        with connect(own_databases, role) as other:
            for statement in (
                "DELETE FROM protection.changes",
                "UPDATE protection.changes SET rows = 0",
                "TRUNCATE protection.changes",
                "INSERT INTO protection.changes (table_name, statement, rows, user_name, application_name, confirmed) "
                "VALUES ('raw.orders', 'DELETE', 1, 'somebody', '', true)",
                "DROP TABLE protection.changes",
                "CREATE OR REPLACE FUNCTION protection.record_change() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RETURN NULL; END'",
                "ALTER TABLE raw.orders DISABLE TRIGGER protect_delete",
                "DROP TRIGGER protect_delete ON raw.orders",
                "SET session_replication_role = replica",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    other.execute(statement)
    assert changes(orders) == recorded


def test_preparing_again_changes_nothing(orders: Connection, own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path / "again")
    triggers = (
        "SELECT tgrelid::regclass::text, tgname, tgargs, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
    )
    before = orders.execute(triggers).fetchall()
    assert [row[:2] for row in before] == [
        ("raw.orders", f"protect_{what}") for what in ("delete", "insert", "truncate", "update")
    ]
    orders.execute("DELETE FROM raw.orders WHERE landing_position = 1")
    recorded = changes(orders)
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    assert orders.execute(triggers).fetchall() == before
    assert changes(orders) == recorded


def test_a_contract_declares_its_share(orders: Connection, own_databases: Databases, tmp_path: Path) -> None:
    for share, statement, refused in (
        (0.5, "UPDATE raw.orders SET amount = 1 WHERE landing_position <= 500", False),
        (0.5, "UPDATE raw.orders SET amount = 1 WHERE landing_position <= 501", True),
        (0, f"UPDATE raw.orders SET amount = 1 WHERE landing_position <= {FLOOR_ROWS + 1}", True),
        (1, "DELETE FROM raw.orders", False),
    ):
        folder = tmp_path / str(share)
        catalog, variables = orders_catalog(folder)
        contract = folder / "contracts" / "orders.yaml"
        contract.write_text(
            contract.read_text().replace(
                "customProperties:\n", f"customProperties:\n- {{property: protectedShare, value: {share}}}\n"
            )
        )
        from incident_pipelines.adapters.catalog_files import load_catalog

        catalog = load_catalog(variables)
        prepare_warehouse(own_databases.url("warehouse"), catalog)
        if refused:
            with pytest.raises(psycopg.errors.RaiseException):
                orders.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
        else:
            orders.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_a_share_that_is_none_is_refused_with_its_line() -> None:
    text = EVENTS_YAML.format(name="orders", topic="orders").replace(
        "customProperties:\n", "customProperties:\n- {property: protectedShare, value: 5}\n"
    )
    with pytest.raises(InvalidDocument, match=r"orders\.yaml:9: .*a share from 0 to 1 is expected"):
        parse_contract("orders.yaml", text)
