"""Reconciliation against a real PostgreSQL: exact, aged, resolved, reopened, whole or not at all."""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.adapters.stores.differences import explain_by_incident
from incident_pipelines.core.errors import IncidentPipelinesError, LedgerOwned, SourceUnavailable
from incident_pipelines.core.reconciliation.comparison import Kind
from incident_pipelines.core.reconciliation.differences import ledger_lock_key
from incident_pipelines.core.reconciliation.losses import StatedLoss
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import wait_for
from incident_pipelines_tests.stages.reconciliation_shop import HOUR, LATER, NOON, TILL_BANK_YAML, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Shop:
    return open_shop(tmp_path, own_databases)


def test_what_differs_is_what_the_ledger_holds_and_nothing_else(shop: Shop, rng: random.Random) -> None:
    shop.sell(5_000)
    touched = rng.sample(range(1, 5_001), 60)
    missing, unexpected, amount, note = touched[:15], touched[15:30], touched[30:45], touched[45:]
    shop.bank("DELETE FROM bookings WHERE sale_id = ANY (%s)", missing)
    shop.till("DELETE FROM sales WHERE sale_id = ANY (%s)", unexpected)
    shop.bank("UPDATE bookings SET amount = amount + 1 WHERE sale_id = ANY (%s)", amount)
    shop.bank("UPDATE bookings SET note = NULL WHERE sale_id = ANY (%s)", note)
    run = shop.reconcile()
    expected = {
        **dict.fromkeys(missing, "missing"),
        **dict.fromkeys(unexpected, "unexpected"),
        **dict.fromkeys((*amount, *note), "mismatched"),
    }
    assert shop.open() == {(kind, sale) for sale, kind in expected.items()}
    assert (run.counts.missing, run.counts.unexpected, run.counts.mismatched) == (15, 15, 30)
    assert (run.counts.source, run.counts.target) == (4_985, 4_985)
    assert (run.opened, run.open_unexplained, run.open_in_flight, run.verdict) == (60, 60, 0, "error")
    # Missing, unexpected and a lost note put their whole amount at stake, a wrong amount what it is wrong by.
    assert run.money == {"EUR": sum(missing) + sum(unexpected) + 15 + sum(note)}
    changed = shop.ledger(
        "SELECT columns FROM reconciliation.differences WHERE (key ->> 'sale_id')::int = %s", amount[0]
    )
    assert changed[0][0] == {"amount": {"source": str(amount[0]), "target": str(amount[0] + 1)}} or changed[0][0] == {
        "amount": {"source": amount[0], "target": amount[0] + 1}
    }
    again = shop.reconcile(as_of=LATER + MINUTE)
    assert (again.opened, again.resolved, again.open_unexplained) == (0, 0, 60)
    first, last = shop.ledger("SELECT min(first_seen), max(last_seen) FROM reconciliation.differences")[0]
    assert (first, last) == (LATER, LATER + MINUTE)


def test_an_hour_is_its_rows_on_either_side_and_what_is_still_open(shop: Shop) -> None:
    shop.sell(180)  # a sale a minute from 11:00 on; 60 to 119 are of the hour
    shop.bank("DELETE FROM bookings WHERE sale_id IN (10, 70)")
    run = shop.reconcile(HOUR)
    assert shop.open() == {("missing", 70)}
    assert (run.counts.source, run.counts.target) == (60, 59)
    assert run.gap_rate.quantize(run.gap_rate.__class__("0.0001")) == run.gap_rate.__class__("0.0167")
    shop.reconcile()
    assert shop.open() == {("missing", 10), ("missing", 70)}
    shop.bank("INSERT INTO bookings SELECT 10, 'customer 10', 10, 'note', 'EUR', %s, %s", NOON, NOON)
    other_hour = shop.reconcile(TimeWindow(HOUR.start + 60 * MINUTE, HOUR.end + 60 * MINUTE), LATER + MINUTE)
    assert shop.open() == {("missing", 70)}, "an open difference of another hour is looked at again"
    assert (other_hour.counts.missing, other_hour.resolved, other_hour.open_unexplained) == (0, 1, 1)
    assert other_hour.verdict == "ok", "the gap is that of the hour"


def test_a_row_in_another_hour_on_the_other_side_is_no_row_that_is_missing(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("UPDATE bookings SET booked_at = booked_at + interval '1 hour' WHERE sale_id = 61")
    assert shop.reconcile(HOUR).counts.differences == 0
    shop.bank("UPDATE bookings SET amount = 0 WHERE sale_id = 61")
    assert shop.reconcile(HOUR).counts.mismatched == 1
    assert shop.open() == {("mismatched", 61)}


def test_the_hour_of_a_row_is_kept_beside_that_of_its_last_change(shop: Shop) -> None:
    shop.sell(180)
    later = HOUR.end + 90 * MINUTE
    shop.till("UPDATE sales SET amount = 0, changed_at = %s WHERE sale_id = 61", later)
    shop.bank("UPDATE bookings SET booked_at = booked_at + interval '1 hour' WHERE sale_id = 61")
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    shop.reconcile(HOUR)
    at = HOUR.start + MINUTE
    assert shop.ledger(
        "SELECT kind, source_time, target_time, newest_at FROM reconciliation.differences ORDER BY kind"
    ) == [
        ("mismatched", at, at + 60 * MINUTE, later),
        ("missing", at + 9 * MINUTE, None, at + 9 * MINUTE),
    ]


def test_a_ledger_of_before_is_completed_and_learns_the_hours_of_what_is_open(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    shop.till("DELETE FROM sales WHERE sale_id = 71")
    shop.reconcile(HOUR)
    ((view,),) = shop.ledger("SELECT pg_get_viewdef('reconciliation.differences')")
    before, _, behind = view.partition(",\n    source_time,\n    target_time")
    shop.ledger("DROP VIEW reconciliation.differences")
    shop.ledger("ALTER TABLE reconciliation.ledger DROP COLUMN source_time, DROP COLUMN target_time")
    shop.ledger(f"CREATE VIEW reconciliation.differences AS {before}{behind}")
    prepare_control(shop.databases.url("control"))
    times = "SELECT source_time, target_time FROM reconciliation.differences ORDER BY kind"
    assert shop.ledger(times) == [(None, None), (None, None)]
    shop.reconcile(TimeWindow(HOUR.end, HOUR.end + 60 * MINUTE), LATER + MINUTE)
    assert shop.ledger(times) == [(HOUR.start + 10 * MINUTE, None), (None, HOUR.start + 11 * MINUTE)]


@pytest.mark.parametrize("changed", ["{source: changed_at, target: changed_at}", "{target: changed_at}"])
def test_an_old_row_that_was_changed_in_the_hour_is_looked_at(
    own_databases: Databases, tmp_path: Path, changed: str
) -> None:
    declaration = TILL_BANK_YAML.replace("{source: changed_at, target: changed_at}", changed)
    shop = open_shop(tmp_path, own_databases, declaration)
    shop.sell(180)
    shop.bank("UPDATE bookings SET amount = 0, changed_at = %s WHERE sale_id = 5", HOUR.start + MINUTE)
    run = shop.reconcile(HOUR)
    assert shop.open() == {("mismatched", 5)}
    assert run.counts.mismatched == 1
    assert run.counts.source >= 60


def test_a_row_in_flight_is_a_difference_once_the_grace_has_passed(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id = 119")  # sold at 12:59
    sold_at = HOUR.end - MINUTE
    early = shop.reconcile(HOUR, sold_at + 10 * MINUTE - timedelta(microseconds=1))
    assert (early.counts.missing, early.open_in_flight, early.verdict) == (0, 1, "ok")
    assert shop.ledger("SELECT explanation, age >= '0' FROM reconciliation.differences") == [("in_flight", True)]
    late = shop.reconcile(HOUR, sold_at + 10 * MINUTE)
    assert (late.opened, late.counts.missing, late.open_in_flight, late.verdict) == (0, 1, 0, "error")
    assert shop.ledger("SELECT explanation FROM reconciliation.differences") == [(None,)]


def test_a_difference_that_is_gone_resolves_and_one_that_comes_back_reopens(shop: Shop) -> None:
    shop.sell(180)
    original = shop.bank("SELECT * FROM bookings WHERE sale_id = 70")[0]
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    assert shop.reconcile(HOUR).opened == 1
    shop.bank("INSERT INTO bookings VALUES (%s, %s, %s, %s, %s, %s, %s)", *original)
    gone = shop.reconcile(HOUR, LATER + MINUTE)
    assert (gone.resolved, gone.open_unexplained, gone.verdict) == (1, 0, "ok")
    assert shop.open() == set()
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    back = shop.reconcile(HOUR, LATER + 2 * MINUTE)
    assert (back.opened, back.reopened) == (0, 1)
    row = shop.ledger("SELECT first_seen, opened_at, reopened, resolved_at FROM reconciliation.differences")
    assert row == [(LATER, LATER + 2 * MINUTE, 1, None)]


def test_rows_of_one_key_are_told_apart(shop: Shop) -> None:
    shop.sell(10)
    for amount in (1, 2, 3):
        shop.till("INSERT INTO sales SELECT 5, 'customer 5', %s, 'note', 'EUR', %s, %s", amount, NOON, NOON)
    shop.reconcile()
    rows = shop.ledger("SELECT kind, occurrence FROM reconciliation.differences ORDER BY 2")
    assert rows == [("missing", 0), ("missing", 1), ("missing", 2)]
    assert shop.reconcile(HOUR, LATER + MINUTE).opened == 0


def test_an_explanation_by_an_incident_stays(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    shop.reconcile(HOUR)
    shop.ledger("UPDATE reconciliation.differences SET explanation = 'incident', incident_id = 'i-1'")
    run = shop.reconcile(HOUR, LATER + MINUTE)
    assert (run.open_incident, run.open_unexplained, run.counts.missing, run.verdict) == (1, 0, 0, "ok")


def explain(shop: Shop, at_most: int, incident_id: str = "INC-1", kinds: tuple[Kind, ...] = ("missing",)) -> int:
    """Explain what is open in the hour."""
    control = postgres_engine(shop.databases.url("control", "publisher"), "test")
    with control.begin() as connection:
        explained = explain_by_incident(connection, "till_bank", incident_id, [HOUR], at_most, kinds)
    control.dispose()
    return explained


def explanations(shop: Shop) -> dict[int, tuple[str | None, str | None]]:
    rows = shop.ledger(
        "SELECT (key ->> 'sale_id')::int, explanation, incident_id FROM reconciliation.differences "
        "WHERE resolved_at IS NULL"
    )
    return {sale: (explanation, incident_id) for sale, explanation, incident_id in rows}


BY = ("incident", "INC-1")
NOTHING = (None, None)


def test_a_loss_explains_missing_rows_of_its_windows_and_no_others(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id IN (10, 70, 71)")  # the first one is of the hour before
    shop.till("DELETE FROM sales WHERE sale_id = 80")
    shop.bank("UPDATE bookings SET amount = 0 WHERE sale_id = 90")
    shop.reconcile()
    shop.bank("DELETE FROM bookings WHERE sale_id = 72")
    shop.till("UPDATE sales SET changed_at = %s WHERE sale_id = 72", LATER)  # on its way, for all anybody knows
    shop.reconcile()
    assert explain(shop, at_most=2) == 2
    assert explain(shop, at_most=2) == 2, "done twice is as if done once"
    assert explain(shop, at_most=2, incident_id="INC-2") == 0
    on_its_way = ("in_flight", None)
    left = {10: NOTHING, 80: NOTHING, 90: NOTHING}
    assert explanations(shop) == {**left, 70: BY, 71: BY, 72: on_its_way}
    assert explain(shop, at_most=3, kinds=("missing", "mismatched")) == 3
    assert explanations(shop)[90] == BY
    assert explanations(shop)[80] == NOTHING


def test_where_more_differs_than_was_lost_nothing_is_explained_any_longer(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id IN (70, 71)")
    shop.reconcile()
    assert explain(shop, at_most=1) == 0
    assert explanations(shop) == {70: NOTHING, 71: NOTHING}
    assert explain(shop, at_most=2) == 2
    shop.bank("DELETE FROM bookings WHERE sale_id = 72")
    shop.reconcile()
    assert explain(shop, at_most=2) == 0
    assert explanations(shop) == {70: NOTHING, 71: NOTHING, 72: NOTHING}


def test_what_a_loss_explains_is_no_gap_and_stays_explained_until_it_is_gone(shop: Shop) -> None:
    shop.sell(180)
    original = shop.bank("SELECT * FROM bookings WHERE sale_id = 70")[0]
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    loss = StatedLoss("INC-1", HOUR, 1)
    assert shop.reconcile(HOUR).signal_id is not None
    run = shop.reconcile(HOUR, LATER + MINUTE, losses=[loss])
    assert (run.explained, run.counts.missing, run.gap_rate, run.verdict) == (1, 0, 0, "ok")
    assert shop.ledger("SELECT count(*) FROM monitoring.signals WHERE cleared_at IS NULL") == [(0,)]
    later = shop.reconcile(as_of=LATER + 2 * MINUTE)
    assert (later.open_incident, later.open_unexplained, later.verdict, later.money) == (1, 0, "ok", {})
    assert shop.open() == {("missing", 70)}
    shop.bank("INSERT INTO bookings VALUES (%s, %s, %s, %s, %s, %s, %s)", *original)
    assert shop.reconcile(as_of=LATER + 3 * MINUTE).resolved == 1
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    back = shop.reconcile(as_of=LATER + 4 * MINUTE)
    assert (back.reopened, back.open_unexplained, back.verdict) == (1, 1, "error")


def test_a_loss_is_found_by_the_last_change_of_rows_that_do_not_say_when_they_belong(
    own_databases: Databases, tmp_path: Path
) -> None:
    lines = [line for line in TILL_BANK_YAML.splitlines() if not line.startswith("time:")]
    shop = open_shop(tmp_path, own_databases, "\n".join(lines) + "\n")
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id IN (10, 70)")
    run = shop.reconcile(losses=[StatedLoss("INC-1", HOUR, 1)])
    assert (run.explained, run.counts.missing) == (1, 1)
    assert explanations(shop) == {10: NOTHING, 70: BY}


def test_an_empty_side_is_said_to_be_empty(shop: Shop) -> None:
    shop.sell(180)
    shop.till("TRUNCATE sales")
    run = shop.reconcile()
    assert run.verdict == "error"
    assert "till holds no row where bank holds 180" in run.statement
    assert run.counts.unexpected == 180
    assert len(shop.open()) == 180


def test_a_side_that_is_empty_because_all_is_in_flight_is_no_error(shop: Shop) -> None:
    shop.sell(2, minutes=2, start=NOON)
    shop.bank("TRUNCATE bookings")
    run = shop.reconcile(as_of=NOON + 3 * MINUTE)
    assert (run.verdict, run.open_in_flight, run.signal_id) == ("ok", 2, None)
    run = shop.reconcile(as_of=NOON + 30 * MINUTE)
    assert run.verdict == "error"
    assert "bank holds no row where till holds 2" in run.statement


def test_a_gap_is_one_signal_for_its_window_with_personal_data_masked(shop: Shop) -> None:
    shop.sell(180)
    assert shop.reconcile(HOUR).signal_id is None
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    first = shop.reconcile(HOUR, LATER + MINUTE)
    assert first.signal_id is not None
    assert shop.reconcile(HOUR, LATER + 2 * MINUTE).signal_id is None
    kind, severity, dataset, start, detail = shop.ledger(
        "SELECT kind, severity, dataset, window_start, detail FROM monitoring.signals"
    )[0]
    assert (kind, severity, dataset, start) == ("reconciliation_gap", "page", "till_bank", HOUR.start)
    assert detail["missing"] == 1
    assert detail["samples"][0]["key"] == {"sale_id": "70"}
    assert "1 differences in 60 rows (1.667%)" in detail["summary"]
    assert "customer 70" not in json.dumps(detail)
    full = shop.reconcile(as_of=LATER + 3 * MINUTE)
    assert full.signal_id is not None
    assert shop.reconcile(as_of=LATER + 25 * 60 * MINUTE).signal_id is None, "one while it lasts"
    uncleared = "SELECT signal_id FROM monitoring.signals WHERE cleared_at IS NULL ORDER BY 1"
    assert shop.ledger(uncleared) == [(first.signal_id,), (full.signal_id,)]
    shop.till("DELETE FROM sales WHERE sale_id = 70")
    other_hour = TimeWindow(HOUR.start - 60 * MINUTE, HOUR.start)
    assert shop.reconcile(other_hour, LATER + 26 * 60 * MINUTE).resolved == 1
    assert shop.ledger(uncleared) == [], "nothing is open any more"


def test_a_signal_stays_while_another_window_agrees(shop: Shop) -> None:
    shop.sell(180)
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    assert shop.reconcile(HOUR).signal_id is not None
    assert shop.reconcile(TimeWindow(HOUR.start - 60 * MINUTE, HOUR.start)).verdict == "ok"
    assert shop.ledger("SELECT count(*) FROM monitoring.signals WHERE cleared_at IS NULL") == [(1,)]


def test_a_small_gap_warns(shop: Shop) -> None:
    shop.sell(5_000)
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    assert shop.reconcile().verdict == "warn"
    assert shop.ledger("SELECT severity FROM monitoring.signals") == [("warning",)]


def _killed(shop: Shop, failpoint: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-m", "incident_pipelines_tests.stages.reconciliation_shop", LATER.isoformat()],
        env={**os.environ, **shop.variables, ENVIRONMENT_VARIABLE: failpoint},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.mark.parametrize("failpoint", ["reconcile.stored", "reconcile.before_commit"])
def test_a_killed_run_leaves_nothing(shop: Shop, failpoint: str) -> None:
    shop.sell(5_000)
    shop.bank("DELETE FROM bookings WHERE sale_id <= 2500")
    _killed(shop, failpoint)
    assert shop.ledger(
        "SELECT (SELECT count(*) FROM reconciliation.runs), (SELECT count(*) FROM monitoring.signals)"
    ) == [(0, 0)]
    assert shop.open() == set()
    assert shop.reconcile().opened == 2_500, "the killed one does not hold the ledger"


def test_a_run_killed_after_its_commit_is_a_whole_run(shop: Shop) -> None:
    shop.sell(100)
    shop.bank("DELETE FROM bookings WHERE sale_id <= 50")
    _killed(shop, "reconcile.after_commit")
    assert len(shop.open()) == 50
    assert shop.reconcile(as_of=LATER + MINUTE).opened == 0


def test_two_at_once_double_nothing(shop: Shop) -> None:
    shop.sell(2_000)
    shop.bank("DELETE FROM bookings WHERE sale_id <= 1000")
    opened: list[int] = []
    runs = [threading.Thread(target=lambda: opened.append(shop.reconcile().opened)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(opened) == [0, 1_000]
    assert len(shop.open()) == 1_000


def test_the_second_one_waits_and_then_names_the_owner(shop: Shop) -> None:
    control = postgres_engine(shop.databases.url("control", "publisher"), "a long run of somebody")
    with control.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ledger_lock_key("till_bank")})
        with pytest.raises(LedgerOwned, match="till_bank is being reconciled by a long run of somebody"):
            shop.reconcile(wait_seconds=0.2)
    control.dispose()
    assert shop.reconcile().verdict == "ok"


def _nowhere() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nothing?connect_timeout=2"


def _without_a_table(shop: Shop) -> None:
    shop.bank("DROP TABLE bookings")


def _without_rights(shop: Shop) -> None:
    shop.bank("REVOKE SELECT ON bookings FROM source_reader")


@pytest.mark.parametrize("side", ["TILL_URL", "BANK_URL"])
def test_a_side_that_is_down_is_no_difference(shop: Shop, side: str) -> None:
    shop.sell(10)
    shop.bank("DELETE FROM bookings WHERE sale_id = 7")
    shop.reconcile()
    with pytest.raises(SourceUnavailable):
        shop.reconcile(as_of=LATER + MINUTE, environment={**shop.variables, side: _nowhere()})
    with pytest.raises(SourceUnavailable, match=f"{side} is not set"):
        shop.reconcile(as_of=LATER + MINUTE, environment={**shop.variables, side: ""})
    assert shop.open() == {("missing", 7)}
    assert shop.ledger("SELECT count(*) FROM reconciliation.runs") == [(1,)]


@pytest.mark.parametrize("break_it", [_without_a_table, _without_rights])
def test_a_side_that_cannot_be_read_is_no_difference(shop: Shop, break_it: Callable[[Shop], None]) -> None:
    shop.sell(10)
    break_it(shop)
    with pytest.raises(IncidentPipelinesError):
        shop.reconcile()
    assert shop.ledger("SELECT count(*) FROM reconciliation.runs") == [(0,)]


def test_a_side_that_takes_too_long_is_no_difference(shop: Shop) -> None:
    shop.sell(10)
    with psycopg.connect(driver_url(shop.databases.url("billing"))) as other:
        other.execute("LOCK TABLE bookings IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceUnavailable):
            shop.reconcile(timeout_seconds=1)
    assert shop.open() == set()


def test_a_source_is_not_written_to_and_not_left_open(shop: Shop) -> None:
    shop.sell(10)
    shop.reconcile()
    shop.reconcile(HOUR)
    wait_for(
        lambda: (
            shop.till(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'source_reader'"
            )
            == [(0,)]
        ),
        "connections to the source are closed",
        10,
    )


def test_a_reconciliation_without_time_has_no_hours(own_databases: Databases, tmp_path: Path) -> None:
    lines = [line for line in TILL_BANK_YAML.splitlines() if not line.startswith(("time:", "changed:"))]
    shop = open_shop(tmp_path, own_databases, "\n".join(lines) + "\n")
    shop.sell(10)
    shop.bank("DELETE FROM bookings WHERE sale_id = 7")
    with pytest.raises(ValueError, match="declares no time column"):
        shop.reconcile(HOUR)
    # Nothing says when a row was written: the grace counts from when the difference was first seen.
    assert shop.reconcile(as_of=LATER).open_in_flight == 1
    assert shop.reconcile(as_of=LATER + 9 * MINUTE).open_in_flight == 1
    assert shop.reconcile(as_of=LATER + 10 * MINUTE).counts.missing == 1


def test_two_engines_share_a_ledger(own_databases: Databases, tmp_path: Path) -> None:
    declaration = TILL_BANK_YAML.replace("table: public.sales", "table: sales")
    shop = open_shop(tmp_path, own_databases, declaration)
    shop.sell(180)
    till = tmp_path / "till.sqlite"
    with sqlite3.connect(till) as sqlite:
        sqlite.execute(
            "CREATE TABLE sales (sale_id INTEGER, customer TEXT, amount REAL, note TEXT, currency TEXT, sold_at TEXT, "
            "changed_at TEXT)"
        )
        rows = shop.till("SELECT sale_id, customer, amount::float8, note, currency, sold_at, changed_at FROM sales")
        sqlite.executemany(
            "INSERT INTO sales VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*row[:5], *(at.strftime("%Y-%m-%d %H:%M:%S") for at in row[5:])) for row in rows],
        )
    sqlite.close()
    variables = {**shop.variables, "TILL_URL": f"sqlite:///{till}"}
    assert shop.reconcile(environment=variables).counts.differences == 0
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    shop.bank("UPDATE bookings SET note = '', changed_at = %s WHERE sale_id = 5", HOUR.start)
    run = shop.reconcile(HOUR, LATER + MINUTE, environment=variables)
    assert shop.open() == {("missing", 70), ("mismatched", 5)}
    assert (run.counts.missing, run.counts.mismatched, run.open_in_flight) == (1, 1, 0)
    assert run.money == {"EUR": 75}
    assert shop.reconcile(as_of=LATER + 2 * MINUTE, environment=variables).opened == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM reconciliation.ledger",
        "DELETE FROM reconciliation.differences",
        "DELETE FROM reconciliation.runs",
        "TRUNCATE reconciliation.ledger",
        "DROP TABLE reconciliation.ledger",
        "ALTER TABLE reconciliation.ledger ADD COLUMN x int",
        "CREATE TABLE reconciliation.x (x int)",
        "UPDATE monitoring.signals SET severity = 'info'",
        "DELETE FROM monitoring.signals",
        "UPDATE monitoring.cursors SET xid = 0",
    ],
)
def test_the_role_that_reconciles_takes_nothing_away(databases: Databases, statement: str) -> None:
    prepare_control(databases.url("control"))
    with (
        psycopg.connect(driver_url(databases.url("control", "publisher"))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("role", ["monitor", "lander"])
def test_other_roles_do_not_write_the_ledger(databases: Databases, role: str) -> None:
    prepare_control(databases.url("control"))
    with (
        psycopg.connect(driver_url(databases.url("control", role))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(
            "INSERT INTO reconciliation.runs (reconciliation, mode, as_of, owner) VALUES ('x', 'full', now(), 'x')"
        )
