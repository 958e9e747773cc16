import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from incident_pipelines.adapters.databases import source_table
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.landing.extract import Extracted, extract_changes, extract_window
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, ids, instant, open_shop

pytestmark = pytest.mark.stack

TABLES = """
CREATE TABLE public.plans (plan_id text PRIMARY KEY, price numeric(12,2), updated_at timestamptz, secret text);
CREATE TABLE public.payments (payment_id bigint PRIMARY KEY, order_id text, transaction_id text, amount numeric(14,4),
    settled boolean, due date, created_at timestamptz, updated_at timestamptz, secret text);
CREATE INDEX ON public.payments (updated_at, payment_id);
"""


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    change(shop, TABLES)
    yield shop
    close_shop(shop)


def change(shop: Shop, sql: str) -> None:
    with shop.source.begin() as connection:
        connection.exec_driver_sql(sql)


def pay(shop: Shop, number: int, created: str, updated: str, amount: str = "5.25") -> None:
    change(
        shop,
        f"INSERT INTO payments VALUES ({number}, 'o{number}', 't{number}', {amount}, true, '2026-04-01', "
        f"'{instant(created).isoformat()}', '{instant(updated).isoformat()}', 's') ON CONFLICT (payment_id) DO UPDATE "
        "SET amount = excluded.amount, created_at = excluded.created_at, updated_at = excluded.updated_at",
    )


def payments(shop: Shop) -> RowsContract:
    contract = shop.catalog.landed["payments"]
    assert isinstance(contract, RowsContract)
    return contract


def plans(shop: Shop) -> RowsContract:
    contract = shop.catalog.landed["plans"]
    assert isinstance(contract, RowsContract)
    return contract


def extract(shop: Shop, contract: RowsContract | None = None) -> Extracted:
    return extract_changes(shop.source, shop.warehouse, shop.catalog, contract or payments(shop), now=NOW)


def test_the_first_time_everything_then_only_what_changed(shop: Shop) -> None:
    for number in range(10):
        pay(shop, number, f"10T{number}", "12T10")
    first = extract(shop)
    assert (first.read, first.appended) == (10, 10)
    assert first.hours == tuple(instant(f"10T{number}") for number in range(10))
    again = extract(shop)
    assert (again.read, again.appended) == (10, 0)
    pay(shop, 4, "10T4", "13T10", "7")
    last = extract(shop)
    assert (last.appended, last.hours) == (1, (instant("10T4"),))
    assert ("payments", TimeWindow.hour_of(instant("10T4"))) in stale_windows(shop.warehouse, shop.catalog)
    assert shop.rows("SELECT kind, count(*) FROM landing.origins GROUP BY 1") == [("extract", 1)]
    assert shop.rows("SELECT position FROM landing.payments ORDER BY 1") == [(n,) for n in range(11)]


def test_images_hold_the_declared_columns_in_canonical_form(shop: Shop) -> None:
    pay(shop, 1, "10T10", "10T10", "3")
    change(shop, "UPDATE payments SET created_at = '2026-03-10 12:00:00.5+02'")
    extract(shop)
    ((value,),) = shop.rows("SELECT value FROM landing.payments")
    assert bytes(value).decode() == (
        '{"payment_id":1,"order_id":"o1","transaction_id":"t1","amount":3.00,"settled":true,"due":"2026-04-01",'
        '"created_at":"2026-03-10T10:00:00.500000Z","updated_at":"2026-03-10T10:00:00.000000Z"}'
    )
    assert b"secret" not in bytes(value)


def test_paging_loses_nothing_where_many_rows_changed_at_once(shop: Shop) -> None:
    change(
        shop,
        "INSERT INTO payments SELECT n, 'o', NULL, 1, NULL, NULL, '2026-03-10 10:00+00', '2026-03-11 10:00+00' "
        "FROM generate_series(1, 12345) n",
    )
    assert extract(shop).appended == 12345
    assert shop.rows("SELECT count(DISTINCT event_id) FROM landing.payments") == [(12345,)]


def test_a_row_that_commits_late_is_found_within_the_overlap(shop: Shop) -> None:
    pay(shop, 1, "10T10", "12T10:09")
    extract(shop)
    pay(shop, 2, "10T10", "12T10")
    pay(shop, 3, "10T10", "12T09")
    assert ids(shop.rows("SELECT event_id FROM landing.payments")) == {"1"}
    assert extract(shop).appended == 1
    assert ids(shop.rows("SELECT event_id FROM landing.payments")) == {"1", "2"}
    window = TimeWindow.hour_of(instant("10T10"))
    done = extract_window(shop.source, shop.warehouse, shop.catalog, payments(shop), window, now=NOW)
    assert (done.read, done.appended) == (3, 1)


def test_a_clock_that_runs_ahead_does_not_move_the_watermark_past_now(shop: Shop) -> None:
    pay(shop, 1, "10T10", "12T10")
    change(shop, "UPDATE payments SET updated_at = '2999-01-01'")
    extract(shop)
    assert shop.rows("SELECT updated_before FROM landing.watermarks") == [(NOW,)]
    later = NOW + timedelta(minutes=5)
    pay(shop, 2, "10T10", "10T10")
    change(shop, f"UPDATE payments SET updated_at = '{NOW.isoformat()}' WHERE payment_id = 2")
    assert extract_changes(shop.source, shop.warehouse, shop.catalog, payments(shop), now=later).appended == 1


def test_bad_rows_are_dead_letters_and_appended_once(shop: Shop) -> None:
    pay(shop, 1, "10T10", "12T10", "1.23456")
    change(shop, "UPDATE payments SET amount = 1.2345")
    pay(shop, 2, "10T10", "12T10", "-1")
    change(shop, "INSERT INTO payments VALUES (3, 'o', 't3', 1, true, NULL, '2020-01-01', '2026-03-12 10:00+00')")
    change(shop, "INSERT INTO payments VALUES (4, 'o', 't4', 1, true, NULL, NULL, '2026-03-12 10:00+00')")
    pay(shop, 5, "10T10", "12T10")
    assert extract(shop).appended == 5
    assert shop.rows("SELECT event_id, reason FROM landing.payments ORDER BY 1") == [
        ("1", "too_many_decimals"),
        ("2", "below_minimum"),
        ("3", "time_before_start"),
        ("4", "null_field"),
        ("5", None),
    ]
    assert extract(shop).appended == 0


def test_an_image_from_elsewhere_is_not_appended_again(shop: Shop) -> None:
    pay(shop, 1, "10T10", "12T10")
    extract(shop)
    ((old,),) = shop.rows("SELECT value FROM landing.payments")
    pay(shop, 1, "10T10", "12T11", "9")
    extract(shop)
    # A recovery brings the old image once more: the newest is still the one of 11 o'clock.
    shop.append("payments", bytes(old), kind="recovery")
    window = TimeWindow.hour_of(instant("10T10"))
    assert extract_window(shop.source, shop.warehouse, shop.catalog, payments(shop), window, now=NOW).appended == 0
    # The source goes back to the old image, which came into the log last: nothing to note.
    change(shop, "DELETE FROM payments")
    pay(shop, 1, "10T10", "12T10")
    for _ in range(2):
        assert extract_window(shop.source, shop.warehouse, shop.catalog, payments(shop), window, now=NOW).appended == 0
    list(refresh(shop.warehouse, shop.catalog, owner="t"))
    assert [float(row[0]) for row in shop.rows("SELECT amount FROM raw.payments")] == [9.0]


def test_rows_that_are_gone_delete_nothing(shop: Shop) -> None:
    pay(shop, 1, "10T10", "12T10")
    extract(shop)
    list(refresh(shop.warehouse, shop.catalog, owner="t"))
    change(shop, "DELETE FROM payments")
    window = TimeWindow.hour_of(instant("10T10"))
    assert extract(shop) == Extracted("payments", 0, 0, ())
    assert extract_window(shop.source, shop.warehouse, shop.catalog, payments(shop), window, now=NOW).read == 0
    assert shop.publish("payments", "10T10").rows == 1


def test_a_table_without_creation_time_is_read_whole(shop: Shop) -> None:
    change(shop, "INSERT INTO plans VALUES ('old', 1, '2001-01-01'), ('new', 2, '2026-03-19')")
    assert extract(shop, plans(shop)).appended == 2
    list(refresh(shop.warehouse, shop.catalog, owner="t"))
    assert ids(shop.rows("SELECT plan_id FROM raw.plans")) == {"old", "new"}
    whole = extract_window(shop.source, shop.warehouse, shop.catalog, plans(shop), shop.catalog.whole, now=NOW)
    assert (whole.read, whole.appended) == (2, 0)


def test_what_cannot_be_read_says_what_and_why(shop: Shop) -> None:
    away = postgres_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing", "tests")
    with pytest.raises(SourceUnavailable, match="shop database cannot be reached"):
        extract_changes(away, shop.warehouse, shop.catalog, payments(shop), now=NOW)
    change(shop, "ALTER TABLE payments RENAME COLUMN amount TO total")
    with pytest.raises(SourceUnavailable, match=r"shop: public\.payments has no column amount"):
        extract(shop)
    change(shop, "DROP TABLE payments")
    with pytest.raises(SourceUnavailable, match=r"shop: public\.payments does not exist"):
        extract(shop)
    assert shop.rows("SELECT * FROM landing.watermarks") == []


def test_a_reader_without_rights_is_told_so(shop: Shop, own_databases: Databases) -> None:
    reader = postgres_engine(own_databases.url("app", "source_reader"), "tests")
    with pytest.raises(SourceUnavailable, match=r"shop: public\.payments cannot be read: permission denied"):
        extract_changes(reader, shop.warehouse, shop.catalog, payments(shop), now=NOW)
    reader.dispose()


def test_all_pages_are_of_one_snapshot(shop: Shop) -> None:
    for number in range(6):
        pay(shop, number, "10T10", f"12T{10 + number}")
    table = source_table.SourceTable(shop.source, payments(shop), page_rows=2)
    pages = table.changed_since(None)
    seen = next(pages)
    pay(shop, 0, "10T10", "13T00")
    change(shop, "DELETE FROM payments WHERE payment_id = 5")
    seen += [row for page in pages for row in page]
    assert [row[0] for row in seen] == [0, 1, 2, 3, 4, 5]


def test_other_engines_are_read_too(shop: Shop, tmp_path: Path) -> None:
    sqlite = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with sqlite.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE payments (payment_id INTEGER PRIMARY KEY, order_id TEXT, transaction_id TEXT, "
                "amount NUMERIC(12, 2), settled BOOLEAN, due DATE, created_at TIMESTAMP, updated_at TIMESTAMP)"
            )
        )
        for number in range(7):
            connection.execute(
                text(
                    f"INSERT INTO payments VALUES ({number}, 'o', NULL, 5.25, 1, '2026-04-01', "
                    "'2026-03-10 10:00:00.000000', '2026-03-12 10:00:00.000000')"
                )
            )
    done = extract_changes(sqlite, shop.warehouse, shop.catalog, payments(shop), now=NOW)
    assert done.appended == 7
    (value, reason) = shop.rows("SELECT value, reason FROM landing.payments WHERE event_id = '3'")[0]
    assert reason is None
    assert json.loads(bytes(value)) == {
        "payment_id": 3,
        "order_id": "o",
        "transaction_id": None,
        "amount": 5.25,
        "settled": True,
        "due": "2026-04-01",
        "created_at": "2026-03-10T10:00:00.000000Z",
        "updated_at": "2026-03-12T10:00:00.000000Z",
    }
    sqlite.dispose()
