"""The command line of reconciliations: what it prints and how it exits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.reconciliation_shop import Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

FLOW = "name: sales\nowner: finance\nstages:\n- {name: no_note, source: bank, sql: no_note.sql, clears_within: 1h}\n"
NO_NOTE = "SELECT sale_id AS item, booked_at AS since, amount, currency FROM bookings WHERE note IS NULL"


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Shop:
    for part, name, text in (("clearing", "sales.yaml", FLOW), ("sql/reconciliation", "no_note.sql", NO_NOTE)):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / name).write_text(text, encoding="utf-8")
    shop = open_shop(tmp_path, own_databases)
    shop.sell(180)
    return shop


def command(shop: Shop, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run `incident-pipelines reconcile …` and return exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "incident_pipelines.cli", "reconcile", *arguments],
        env={**os.environ, **shop.variables, "WAREHOUSE_URL": "postgresql://not.needed.invalid/x", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def parsed(shop: Shop, *arguments: str) -> tuple[int, Any]:
    """Run a command that prints JSON."""
    code, output, errors = command(shop, *arguments, "--json")
    assert output, errors
    return code, json.loads(output)


def test_run_tells_by_its_exit_code_whether_sides_agree(shop: Shop) -> None:
    code, run = parsed(shop, "run", "till_bank", "--full")
    assert (code, run["counts"]["source"], run["verdict"]) == (0, 180, "ok")
    shop.bank("DELETE FROM bookings WHERE sale_id = 70")
    code, run = parsed(shop, "run", "till_bank", "--hour", "2026-03-01T12")
    assert (code, run["counts"]["missing"], run["verdict"], run["mode"]) == (1, 1, "error", "hourly")
    assert run["money_at_stake"] == {"EUR": "70"}
    code, rows = parsed(shop, "list")
    assert (code, rows[0]["name"], rows[0]["open"], rows[0]["verdict"]) == (0, "till_bank", 1, "error")


def test_differences_are_shown_with_personal_data_masked(shop: Shop) -> None:
    shop.bank("UPDATE bookings SET customer = 'somebody else' WHERE sale_id = 70")
    command(shop, "run", "till_bank", "--full")
    shop.bank("UPDATE bookings SET customer = 'customer 70' WHERE sale_id = 70")
    shop.bank("DELETE FROM bookings WHERE sale_id = 71")
    command(shop, "run", "till_bank", "--full")
    code, rows = parsed(shop, "differences", "till_bank")
    assert code == 0
    assert {(one["kind"], one["resolved_at"] is None) for one in rows} == {("missing", True), ("mismatched", False)}
    code, (missing,) = parsed(shop, "differences", "till_bank", "--open")
    assert (missing["key"], missing["at_stake"]) == ({"sale_id": "71"}, "71 EUR")
    _, output, _ = command(shop, "differences", "till_bank")
    assert "customer 7" not in output
    assert "somebody" not in output
    assert "resolved" in output


def test_clearing_fails_while_something_is_overdue(shop: Shop) -> None:
    code, rows = parsed(shop, "clearing")
    assert (code, rows[0]["not_cleared"]) == (0, 0)
    shop.bank("UPDATE bookings SET note = NULL WHERE sale_id = 3")
    code, rows = parsed(shop, "clearing")
    assert (code, rows[0]["stage"], rows[0]["overdue"], rows[0]["overdue_money"]) == (1, "no_note", 1, "3.00")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "nothing"), "no reconciliation 'nothing'; one of till_bank"),
        (("run", "till_bank", "--hour", "noon"), "--hour 'noon' is not an hour"),
        (("run", "till_bank", "--hour", "2026-03-01T12:30"), "is within an hour"),
        (("run", "till_bank", "--hour", "2026-03-01T12", "--full"), "exclude each other"),
        (("differences", "nothing"), "no reconciliation 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_one_line(shop: Shop, arguments: tuple[str, ...], said: str) -> None:
    code, _, errors = command(shop, *arguments)
    assert code == 2
    assert errors.startswith("error: ")
    assert said in errors
    assert len(errors.splitlines()) == 1


def test_a_side_that_is_down_is_an_error_and_no_difference(shop: Shop) -> None:
    code, _, errors = command(shop, "run", "till_bank", "--full", BANK_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert code == 2
    assert "cannot be reached" in errors or "does not answer" in errors
    assert shop.open() == set()
