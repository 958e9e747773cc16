"""Windows changed behind our back are one signal each, name who did it, and are cleared when they are right again."""

import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.errors import WindowRefused
from incident_pipelines.core.window_watch import SLICES
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.monitoring.monitor import Monitor
from incident_pipelines.stages.monitoring.window_watch import WindowWatch
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication import publish
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query, wait_for
from incident_pipelines_tests.stages.monitoring.test_monitor import running
from incident_pipelines_tests.stages.shop import Shop, close_shop, instant, open_shop, order, payment

pytestmark = pytest.mark.stack


class WatchedShop:
    """The shop and what watches it.

    Args:
        environment: of the monitor.
    """

    def __init__(self, shop: Shop, environment: Mapping[str, str]) -> None:
        self.shop = shop
        self.control = environment["CONTROL_DATABASE_URL"]
        self.watch = WindowWatch(shop.catalog, environment)
        self.monitor = Monitor(environment)

    def signals(self, where: str = "true") -> list[tuple[Any, ...]]:
        columns = "dataset, window_start, window_end, detail, cleared_at IS NULL"
        return query(self.control, f"SELECT {columns} FROM monitoring.signals WHERE {where} ORDER BY signal_id")


@pytest.fixture
def watched(own_databases: Databases, tmp_path: Path) -> Iterator[WatchedShop]:
    shop = open_shop(own_databases, tmp_path)
    shop.plans("basic")
    for day in ("10", "11"):
        shop.append("orders", *(order(f"{day}-{n}", f"{day}T{9 + n % 4}:{n}", pieces=n or None) for n in range(40)))
    shop.append("payments", *(payment(n, "10T10", "10T11") for n in range(10)))
    while stale_windows(shop.warehouse, shop.catalog):
        list(refresh(shop.warehouse, shop.catalog, owner="tester"))
    watched = WatchedShop(shop, own_databases.environment("monitor"))
    yield watched
    watched.watch.close()
    watched.monitor.close()
    close_shop(shop)


def test_what_publishing_left_is_right(watched: WatchedShop) -> None:
    done = watched.watch.compare()
    assert (done.raised, done.cleared) == (0, 0)
    assert done.rows == sum(
        watched.shop.rows(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("raw.plans", "raw.orders", "raw.payments", "marts.order_states", "marts.turnover")
    )


@pytest.mark.parametrize(
    ("change", "dataset", "start", "end", "stored", "found"),
    [
        ("DELETE FROM raw.orders WHERE order_id = '10-1'", "orders", "10T10", "10T11", 10, 9),
        ("UPDATE raw.orders SET amount = 0.01 WHERE order_id = '10-2'", "orders", "10T11", "10T12", 10, 10),
        ("UPDATE raw.orders SET note = '' WHERE order_id = '10-2'", "orders", "10T11", "10T12", 10, 10),
        ("UPDATE raw.orders SET landing_position = 9000 WHERE order_id = '11-3'", "orders", "11T12", "11T13", 10, 10),
        # Two values change places: every column holds the same values as before.
        (
            "UPDATE raw.orders SET pieces = CASE order_id WHEN '10-1' THEN 5 ELSE 1 END "
            "WHERE order_id IN ('10-1', '10-5')",
            *("orders", "10T10", "10T11", 10, 10),
        ),
        (
            "INSERT INTO raw.orders SELECT gen_random_uuid(), event_type, order_id, plan_id, amount, pieces, note, "
            "occurred_at, 1, 0, 99 FROM raw.orders WHERE order_id = '10-4'",
            *("orders", "10T9", "10T10", 10, 11),
        ),
        (
            "INSERT INTO raw.orders SELECT gen_random_uuid(), event_type, order_id, plan_id, amount, pieces, note, "
            "'2026-03-05 05:30+00', 1, 0, 99 FROM raw.orders WHERE order_id = '10-4'",
            *("orders", "5T5", "5T6", 0, 1),
        ),
        ("DELETE FROM raw.payments WHERE payment_id = 3", "payments", "10T10", "10T11", 10, 9),
        ("UPDATE raw.plans SET price = 2", "plans", "1", None, 1, 1),
        ("UPDATE marts.order_states SET paid = NOT paid WHERE order_id = '11-5'", "order_states", "11", "12", 40, 40),
        ("DELETE FROM marts.turnover WHERE day = '2026-03-10'", "turnover", "10", "11", 1, 0),
        ("INSERT INTO marts.turnover VALUES ('2026-03-10', 'gold', 7)", "turnover", "10", "11", 1, 2),
        ("INSERT INTO marts.turnover VALUES ('2026-03-02', 'gold', 7)", "turnover", "2", "3", 0, 1),
    ],
)
def test_a_change_behind_our_back_is_one_signal_until_the_window_is_published_again(
    watched: WatchedShop, change: str, dataset: str, start: str, end: str | None, stored: int, found: int
) -> None:
    shop = watched.shop
    assert watched.watch.compare().raised == 0
    shop.execute(change)
    assert watched.watch.compare().raised == 1
    assert watched.watch.compare().raised == 0
    ((told, window_start, window_end, detail, is_open),) = watched.signals()
    assert (told, window_start, is_open) == (dataset, instant(start), True)
    if end:
        assert window_end == instant(end)
    assert (detail["rows_stored"], detail["rows_found"]) == (stored, found)
    (statement,) = detail["statements"]
    assert statement["statement"] == change.split()[0]
    assert (statement["user_name"], statement["application_name"]) == ("postgres", "tests")
    assert f"{found} rows were found" in detail["summary"]
    assert "by postgres (tests, 127.0.0.1)" in detail["summary"]
    assert shop.publish(dataset, start).changed_rows in (1, 2)
    assert watched.monitor.raise_signals() == 0  # the publish that put it back came upon it too
    done = watched.watch.compare()
    assert (done.raised, done.cleared) == (0, 1)
    assert [signal[-1] for signal in watched.signals()] == [False]
    # The same again is a new signal.
    shop.execute(change)
    assert watched.watch.compare().raised == 1


@pytest.mark.parametrize("dataset", ["orders", "order_states"])
def test_what_a_publish_puts_back_before_it_is_compared_is_a_signal_too(watched: WatchedShop, dataset: str) -> None:
    shop = watched.shop
    table, at, end = {"orders": ("raw.orders", "10T10", "10T11"), "order_states": ("marts.order_states", "10", "11")}[
        dataset
    ]
    shop.execute(f"DELETE FROM {table} WHERE order_id = '10-1'")
    assert shop.publish(dataset, at).changed_rows == 1
    assert shop.publish(dataset, at).changed_rows == 0
    assert watched.watch.compare().raised == 0
    assert watched.monitor.raise_signals() == 1
    ((told, start, window_end, detail, is_open),) = watched.signals()
    assert (told, start, window_end, is_open) == (dataset, instant(at), instant(end), True)
    assert detail["rows_stored"] == detail["rows_found"] + 1
    assert [statement["statement"] for statement in detail["statements"]] == ["DELETE"]
    assert "which put back what was published" in detail["summary"]
    assert watched.watch.compare().cleared == 1
    assert watched.monitor.raise_signals() == 0


def test_each_new_content_is_one_signal_and_all_are_cleared_at_once(watched: WatchedShop) -> None:
    for amount in (1, 2, 1):
        watched.shop.execute("UPDATE raw.orders SET amount = :amount WHERE order_id = '10-1'", amount=amount)
        watched.watch.compare()
    assert len(watched.signals()) == 2
    watched.shop.publish("orders", "10T10")
    assert watched.watch.compare().cleared == 2


def test_a_row_put_back_by_hand_clears_too(watched: WatchedShop) -> None:
    watched.shop.execute("UPDATE raw.orders SET amount = amount + 1 WHERE order_id = '10-1'")
    assert watched.watch.compare().raised == 1
    watched.shop.execute("UPDATE raw.orders SET amount = amount - 1 WHERE order_id = '10-1'")
    assert watched.watch.compare().cleared == 1


def test_a_moved_row_is_a_signal_of_both_windows(watched: WatchedShop) -> None:
    watched.shop.execute("UPDATE raw.orders SET occurred_at = occurred_at + interval '1 day' WHERE order_id = '10-1'")
    assert watched.watch.compare().raised == 2
    assert sorted((row[1], row[3]["rows_found"]) for row in watched.signals()) == [
        (instant("10T10"), 9),
        (instant("11T10"), 11),
    ]
    watched.shop.publish("orders", "10T10")
    while stale_windows(watched.shop.warehouse, watched.shop.catalog):
        list(refresh(watched.shop.warehouse, watched.shop.catalog, owner="tester"))
    done = watched.watch.compare()
    assert (done.raised, done.cleared) == (0, 2)


def test_two_watches_at_once_raise_one_signal(watched: WatchedShop, own_databases: Databases) -> None:
    watched.shop.execute("DELETE FROM raw.orders WHERE order_id = '10-1'")
    watches = [WindowWatch(watched.shop.catalog, own_databases.environment("monitor")) for _ in range(3)]
    raised: list[int] = []
    threads = [threading.Thread(target=lambda w=watch: raised.append(w.compare().raised)) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for watch in watches:
        watch.close()
    assert sorted(raised) == [0, 0, 1]


def test_publishing_is_never_taken_for_a_change(watched: WatchedShop, rng: random.Random) -> None:
    """Events land late, images of rows move between hours, windows are published by three at once: no signal."""
    shop, stop = watched.shop, threading.Event()
    failures: list[BaseException] = []
    seen: list[int] = []

    def watch() -> None:
        try:
            while not stop.is_set():
                assert watched.watch.compare().raised == 0
                seen.append(1)
        except BaseException as error:
            failures.append(error)

    def work(owner: str) -> None:
        try:
            list(refresh(shop.warehouse, shop.catalog, owner=owner))
        except BaseException as error:
            failures.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(8):
        shop.append("orders", *(order(f"{turn}-{n}", f"1{rng.randrange(2)}T{rng.randrange(24)}") for n in range(20)))
        # The newest image of a payment lies in another hour: its row leaves the old one.
        numbers = rng.sample(range(10), 4)
        moved = [payment(n, f"10T{rng.randrange(9, 13)}", f"12T{turn}", settled=bool(turn % 2)) for n in numbers]
        shop.append("payments", *moved)
        threads = [threading.Thread(target=work, args=(f"refresh {number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    stop.set()
    watcher.join(60)
    assert not failures
    assert len(seen) > 3
    watched.monitor.raise_signals()
    assert watched.signals("kind = 'window_changed_outside'") == []
    while stale_windows(shop.warehouse, shop.catalog):
        list(refresh(shop.warehouse, shop.catalog, owner="tester"))
    assert watched.watch.compare().raised == 0
    assert shop.rows("SELECT count(*) FROM publication.windows WHERE content_digest IS NULL") == [(0,)]


def test_a_row_that_leaves_a_window_while_that_is_published_is_no_change(
    watched: WatchedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old hour has brought its rows into place and not yet stored their digest when the row's new hour comes."""
    shop = watched.shop
    in_place, go_on = threading.Event(), threading.Event()
    store = publish.store_decision

    def wait_and_store(connection: Any, dataset: str, window: TimeWindow, *arguments: Any) -> None:
        if window.start == instant("10T10"):
            in_place.set()
            assert go_on.wait(60)
        store(connection, dataset, window, *arguments)

    monkeypatch.setattr(publish, "store_decision", wait_and_store)
    failures: list[BaseException] = []

    def work(at: str) -> None:
        try:
            shop.publish("payments", at)
        except BaseException as error:
            failures.append(error)

    old_hour = threading.Thread(target=work, args=("10T10",))
    old_hour.start()
    assert in_place.wait(60)
    shop.append("payments", payment(3, "10T12", "12T1"))
    new_hour = threading.Thread(target=work, args=("10T12",))
    new_hour.start()
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
    wait_for(lambda: shop.rows(waits) or not new_hour.is_alive(), "the new hour waits for the old one, or is done")
    go_on.set()
    for thread in (old_hour, new_hour):
        thread.join(60)
    assert not failures
    assert watched.watch.compare().raised == 0
    assert shop.rows("SELECT created_at FROM raw.payments WHERE payment_id = 3") == [(instant("10T12"),)]


def test_a_refused_window_is_still_compared_with_what_was_published(watched: WatchedShop) -> None:
    shop = watched.shop
    shop.append("orders", *(order(f"bad{n}", "10T10", plan_id="unknown") for n in range(30)))
    shop.append("orders", *(order(f"bad{n}", "13T10", plan_id="unknown") for n in range(30)))
    for at in ("10T10", "13T10"):
        with pytest.raises(WindowRefused):
            shop.publish("orders", at)
    assert watched.watch.compare().raised == 0
    shop.execute("DELETE FROM raw.orders WHERE order_id = '10-1'")
    shop.execute("UPDATE raw.orders SET occurred_at = '2026-03-13 10:30+00' WHERE order_id = '10-5'")
    assert watched.watch.compare().raised == 2
    assert [(row[1], row[3]["rows_stored"], row[3]["rows_found"]) for row in watched.signals()] == [
        (instant("10T10"), 10, 8),
        (instant("13T10"), 0, 1),
    ]


def test_a_window_published_before_digests_were_kept_is_no_signal(watched: WatchedShop) -> None:
    watched.shop.execute(
        "ALTER TABLE publication.windows DROP content_rows, DROP content_digest, DROP content_columns, DROP content_at"
    )
    prepare({**watched.shop.variables, **_owner(watched)})
    watched.shop.execute("DELETE FROM raw.orders WHERE order_id = '10-1'")
    assert watched.watch.compare().raised == 0
    watched.shop.publish("orders", "10T10")
    watched.shop.execute("DELETE FROM raw.orders WHERE order_id = '10-1'")
    assert watched.watch.compare().raised == 1


def test_a_column_more_is_no_change_of_what_was_published_without_it(
    watched: WatchedShop, tmp_path: Path, own_databases: Databases
) -> None:
    shop = watched.shop
    shop.execute("ALTER TABLE raw.orders ADD COLUMN channel text DEFAULT 'web'")
    assert watched.watch.compare().raised == 0
    contract = tmp_path / "contracts" / "orders.yaml"
    contract.write_text(contract.read_text().rstrip() + "\n  - {name: channel, logicalType: string}\n")
    from incident_pipelines.adapters.catalog_files import load_catalog

    shop.catalog = load_catalog(shop.variables)
    newer = WindowWatch(shop.catalog, own_databases.environment("monitor"))
    assert shop.publish("orders", "10T10").changed_rows == 10  # the log has no channel
    assert newer.compare().raised == watched.watch.compare().raised == 0
    shop.execute("UPDATE raw.orders SET channel = 'shop' WHERE order_id = '10-1'")  # of a window that has the column
    shop.execute("UPDATE raw.orders SET channel = 'shop' WHERE order_id = '11-1'")  # of one that does not have it yet
    assert newer.compare().raised == 1
    shop.execute("ALTER TABLE raw.orders ALTER COLUMN pieces TYPE integer")
    assert newer.compare().raised == 0
    newer.close()


def test_the_monitor_process_watches(watched: WatchedShop, own_databases: Databases, tmp_path: Path) -> None:
    watched.shop.execute("DELETE FROM marts.turnover WHERE day = '2026-03-10'")
    variables = {**watched.shop.variables, **own_databases.environment("monitor")}
    variables.pop("INCIDENT_PIPELINES_START", None)
    variables["INCIDENT_PIPELINES_SQL"] = watched.shop.variables["INCIDENT_PIPELINES_SQL"]
    with running(variables, tmp_path / "log") as monitor:
        wait_for(watched.signals, "a signal")
        monitor.process.terminate()
        assert monitor.process.wait(20) == 0
    assert [(row[0], row[4]) for row in watched.signals()] == [("turnover", True)]
    assert monitor.said("signal") == 1


def test_old_windows_are_all_seen_within_their_turns(watched: WatchedShop, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.shop.execute("UPDATE publication.windows SET content_at = now() - interval '3 days'")
    watched.shop.execute("DELETE FROM raw.orders WHERE order_id = '10-1'")
    compared = [watched.watch.compare() for _ in range(SLICES)]
    assert sum(done.raised for done in compared) == 1
    assert max(done.windows for done in compared) <= 4


def test_the_monitor_may_not_change_what_it_watches(watched: WatchedShop, own_databases: Databases) -> None:
    engine = postgres_engine(own_databases.environment("monitor")["WAREHOUSE_URL"], "tests")
    for statement in (
        "DELETE FROM raw.orders",
        "UPDATE publication.windows SET content_digest = 0",
        "INSERT INTO protection.changes (table_name, statement, rows, user_name, application_name, confirmed) "
        "VALUES ('raw.orders', 'DELETE', 1, 'me', '', true)",
        "DELETE FROM protection.changes",
        "UPDATE protection.changes SET user_name = 'me'",
    ):
        with pytest.raises(Exception, match="permission denied"), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


def _owner(watched: WatchedShop) -> dict[str, str]:
    return {
        "WAREHOUSE_URL": watched.shop.owner.url.render_as_string(hide_password=False),
        "CONTROL_DATABASE_URL": watched.control.replace("//monitor@", "//postgres@"),
    }
