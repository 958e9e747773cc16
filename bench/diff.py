"""Comparing two tables against reladiff 0.6 on the same tables in the same run.

Two PostgreSQL servers, five compared columns, one row in 20,000 differing: the engine's own hashes, and canonical texts
with md5, against reladiff's hash diff; both tables on one server against its join diff. Then tables of 10 million rows,
1 % differing: memory and time a row, and one hour of them by a time column. reladiff is installed into a temporary
environment of its own, and runs with the number of threads that is best for it.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from bench.figures import Figures
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison
from incident_pipelines.core.reconciliation.scope import Everything, Scope, TimeRange
from incident_pipelines.stack import accounts, ports
from incident_pipelines.stack.postgres import PostgresServer
from incident_pipelines.stages.reconciliation.compare import TableRef, compare

COLUMNS = ("name", "amount", "quantity", "active", "created_at")
START = datetime(2026, 1, 1, tzinfo=UTC)

TABLE = """
CREATE TABLE {table} (id bigint NOT NULL, name text, amount numeric(12,2), quantity integer, active boolean,
                      created_at timestamptz);
INSERT INTO {table} SELECT id, 'customer ' || id * 7919 % 1000003, (id % 100000)::numeric / 100, id % 977, id % 3 = 0,
    timestamptz '2026-01-01 00:00:00+00' + id * interval '1 second' FROM generate_series(1::bigint, {rows}) id;
ALTER TABLE {table} ADD PRIMARY KEY (id);
CREATE INDEX ON {table} (created_at)
"""
# Of each `every` rows one differs: changed, gone or added in turn.
CHANGES = """
UPDATE {table} SET amount = amount + 0.01 WHERE id % ({every} * 3) = 0;
DELETE FROM {table} WHERE id % ({every} * 3) = {every};
INSERT INTO {table} SELECT {rows} + id, 'new', 1, 1, true, timestamptz '2027-01-01' FROM
    generate_series(1, {rows} / ({every} * 3)) id
"""

# Runs in the environment of reladiff: prints seconds and number of differing keys of each round.
RELADIFF = """
import json, sys, time
import reladiff
from reladiff import Algorithm
given = json.loads(sys.argv[1])
for _ in range(given["rounds"]):
    sides = [
        reladiff.connect_to_table(
            given[side], given[table], "id", extra_columns=tuple(given["columns"]), thread_count=given["threads"]
        )
        for side, table in (("source", "source_table"), ("target", "target_table"))
    ]
    options = dict(algorithm=Algorithm(given["algorithm"]), threaded=True, max_threadpool_size=given["threads"] * 2)
    started = time.perf_counter()
    keys = {row[0] for _, row in reladiff.diff_tables(*sides, **options)}
    print(json.dumps({"seconds": time.perf_counter() - started, "keys": len(keys)}), flush=True)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=3_000_000, help="rows of each side, against reladiff")
    arguments.add_argument("--large", type=int, default=10_000_000, help="rows of each side, alone; 0: not")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    figures = Figures("diff")
    with tempfile.TemporaryDirectory(prefix="ip-bench-") as folder:
        python = _reladiff(Path(folder))
        with _server(Path(folder) / "1") as first, _server(Path(folder) / "2") as second:
            _against_reladiff(figures, python, (first, second), options.rows, options.rounds)
            if options.large:
                _large(figures, (first, second), options.large)


def _against_reladiff(
    figures: Figures, python: Path, servers: tuple[PostgresServer, PostgresServer], rows: int, rounds: int
) -> None:
    figures.say(f"{rows:,} rows a side, {len(COLUMNS)} columns, 1 of 20,000 rows differing")
    urls = [server.url("postgres") for server in servers]
    engines = [postgres_engine(url, "bench") for url in urls]
    _fill(engines[0], "source", rows, None)
    _fill(engines[1], "target", rows, 20_000)
    _fill(engines[0], "target", rows, 20_000)
    expected = 3 * (rows // 60_000)
    two, one = (urls[0], urls[1]), (urls[0], urls[0])
    hash_diff = min(
        (_run_reladiff(python, two, "hashdiff", threads, rounds) for threads in (1, 4)), key=lambda runs: min(runs)
    )
    join_diff = _run_reladiff(python, one, "joindiff", 1, rounds)
    figures.row("reladiff hash diff", best_s=min(hash_diff))
    figures.row("reladiff join diff", best_s=min(join_diff))
    for title, sides, portable, reference, at_least in (
        ("two servers, own hashes", two, False, hash_diff, 12.0),
        ("two servers, canonical texts", two, True, hash_diff, 5.0),
        ("one server", one, False, join_diff, 3.0),
    ):
        ratios: list[float] = []
        for number in range(rounds):
            started = time.perf_counter()
            found = sum(1 for _ in _compared(sides, Everything(), portable))
            seconds = time.perf_counter() - started
            assert found == expected, (title, found, expected)
            ratios.append(reference[number] / seconds)
            figures.row(title, round=number + 1, seconds=seconds, reladiff_s=reference[number], ratio=ratios[-1])
        figures.ratio(f"{title}: reladiff / diff", ratios, at_least)
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS source, target"))
        engine.dispose()


def _large(figures: Figures, servers: tuple[PostgresServer, PostgresServer], rows: int) -> None:
    urls = servers[0].url("postgres"), servers[1].url("postgres")
    per_row: list[float] = []
    for part in (rows // 10, rows):
        for url, name, every in ((urls[0], "source", None), (urls[1], "target", 100)):
            engine = postgres_engine(url, "bench")
            _fill(engine, name, part, every)
            engine.dispose()
        seconds, found, most_mb = _apart(_everything, urls)
        per_row.append(seconds / part)
        figures.row(f"{part:,} rows, 1 % differing", seconds=seconds, differences=found, most_memory_mb=most_mb)
    figures.say(f"-> time a row, {rows:,} rows / a tenth of them: {per_row[1] / per_row[0]:.2f}  (asked for: about 1)")
    for hours in (1, 4):
        seconds, found, _ = _apart(_hours, urls, hours)
        figures.row(f"{hours} h of {rows:,} rows", seconds=seconds, rows=3600 * hours, differences=found)


def _everything(urls: tuple[str, str]) -> tuple[float, int]:
    started = time.perf_counter()
    found = sum(1 for _ in _compared(urls, Everything()))
    return time.perf_counter() - started, found


def _hours(urls: tuple[str, str], hours: int) -> tuple[float, int]:
    start = START + timedelta(days=2)
    started = time.perf_counter()
    found = sum(1 for _ in _compared(urls, TimeRange(start, start + timedelta(hours=hours))))
    return time.perf_counter() - started, found


def _apart(measure: Callable[..., tuple[float, int]], *arguments: Any) -> tuple[float, int, float]:
    """Measure in a process of its own, and return with it the most memory that it had, in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, found = pool.apply(measure, arguments)
        return seconds, found, pool.apply(_most_memory_mb)


def _most_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _compared(urls: tuple[str, str], scope: Scope, portable: bool = False) -> Iterator[Any]:
    columns = {name: ComparedColumn(name, name, name) for name in ("id", *COLUMNS)}
    comparison = Comparison((columns["id"],), tuple(columns[name] for name in COLUMNS), time=columns["created_at"])
    return iter(compare(TableRef(urls[0], "source"), TableRef(urls[1], "target"), comparison, scope, portable=portable))


def _fill(engine: Engine, table: str, rows: int, every: int | None) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(text(TABLE.format(table=table, rows=rows)))
        if every is not None:
            connection.execute(text(CHANGES.format(table=table, rows=rows, every=every)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM (ANALYZE) {table}"))
        connection.execute(text("CHECKPOINT"))


def _run_reladiff(python: Path, urls: tuple[str, str], algorithm: str, threads: int, rounds: int) -> list[float]:
    given = {
        "source": driver_url(urls[0]), "target": driver_url(urls[1]), "source_table": "source",
        "target_table": "target", "columns": COLUMNS, "threads": threads, "algorithm": algorithm, "rounds": rounds,
    }  # fmt: skip
    done = subprocess.run(
        (str(python), "-c", RELADIFF, json.dumps(given)), stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line)["seconds"] for line in done.stdout.splitlines()]


def _reladiff(folder: Path) -> Path:
    """Install reladiff and return the Python that has it."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run((uv, "venv", "-q", "-p", sys.executable, str(folder / "reladiff")), check=True)
    python = folder / "reladiff" / "bin" / "python"
    packages = ("reladiff==0.6.*", "psycopg2-binary")
    subprocess.run((uv, "pip", "install", "-q", "-p", str(python), *packages), check=True)
    return python


@contextmanager
def _server(folder: Path) -> Iterator[PostgresServer]:
    folder.mkdir()
    (folder / "sockets").mkdir()
    user_id = accounts.account_for(folder / "data")
    server = PostgresServer(folder / "data", folder / "sockets", ports.choose_free_port(set()), user_id)
    server.prepare_files(lambda _: None)
    log = (folder / "log").open("w")
    process = subprocess.Popen(server.command, stdout=log, stderr=log, cwd="/")
    try:
        server.wait_until_ready(lambda: process.poll() is None)
        yield server
    finally:
        process.terminate()
        process.wait()
        log.close()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
