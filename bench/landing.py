"""Landing against the physical limit: a binary COPY of the same rows, encoded beforehand, into the same table.

Prints rows a second of both and their ratio, for the real table and for one with the primary key alone, then how two
landers share the partitions, and the memory a lander took.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.figures import Figures
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.stores.landing_log import copy_statement
from incident_pipelines.core.contracts.decoder import microseconds
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.landing import LogBatch, Messages
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.landing.land import BATCH_ROWS
from incident_pipelines.stages.prepare import prepare_warehouse

PARTITIONS = 6
CONTRACT = "registrations"
INDEXES = ("registrations_time", "registrations_dead")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    figures = Figures("landing")
    with tempfile.TemporaryDirectory(prefix="ip-bench-") as folder:
        stack = Stack(Path(folder) / "home", ends_with_caller=True)
        stack.start_infrastructure(print)
        try:
            values = list(_events(options.events))
            figures.say(
                f"{options.events:,} events of {sum(map(len, values)) // len(values)} bytes, {PARTITIONS} partitions"
            )
            _fill(stack.bootstrap_servers, values)
            environment = {**stack.environment("owner"), "INCIDENT_PIPELINES_START": "2026-01-01"}
            prepare_warehouse(environment["WAREHOUSE_URL"], load_catalog(environment))
            batches = _encoded(environment, values)
            del values
            for title, indexed in (("real table", True), ("key alone", False)):
                ratios: list[float] = []
                for round_number in range(options.rounds):
                    _empty(environment, indexed)
                    reference = options.events / _copy(environment, batches)
                    _empty(environment, indexed)
                    ours, megabytes = _land(environment, Path(folder), options.events, members=1)
                    ratios.append(ours / reference)
                    figures.row(
                        title,
                        round=round_number + 1,
                        landed_per_s=ours,
                        copy_per_s=reference,
                        ratio=ratios[-1],
                        lander_mb=megabytes[0],
                    )
                figures.ratio(f"landing / COPY, {title}", ratios, at_least=0.6 if indexed else None)
            _empty(environment, True)
            ours, megabytes = _land(environment, Path(folder), options.events, members=2)
            figures.row("two landers", landed_per_s=ours, partitions=_shares(environment), lander_mb=max(megabytes))
        finally:
            stack.stop()


def _events(count: int) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    start = datetime(2026, 6, 1, tzinfo=UTC)
    for number in range(count):
        tail = f"{number:012x}"
        yield encode(
            {
                "event_id": f"11111111-2222-5333-8444-{tail}",
                "event_type": "registration_created",
                "schema_version": "1.0.0",
                "correlation_id": f"21111111-2222-4333-8444-{tail}",
                "registration_id": f"21111111-2222-4333-8444-{tail}",
                "user_id": f"31111111-2222-4333-8444-{tail}",
                "plan_id": "premium",
                "currency": "EUR",
                "amount": 9.99,
                "status": "initiated",
                "created_at": (start + timedelta(milliseconds=20 * number)).isoformat().replace("+00:00", "Z"),
                "source": "app",
                "app_version": "5.2.0",
                "region": "eu",
                "platform": "ios",
            }
        )


def _fill(bootstrap_servers: str, values: list[bytes]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(CONTRACT, PARTITIONS, 1, config={"retention.ms": "-1"})])[CONTRACT].result(30)
    for other in ("payments", "page_views"):
        admin.create_topics([NewTopic(other, PARTITIONS, 1)])[other].result(30)
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "queue.buffering.max.messages": 200_000, "linger.ms": 20}
    )
    for number, value in enumerate(values):
        while True:
            try:
                producer.produce(CONTRACT, value=value, key=value[13:49], partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise SystemExit("the broker did not take all events")


def _encoded(environment: Mapping[str, str], values: list[bytes]) -> list[bytes]:
    """Encode the rows as the lander would, in transactions of the same size."""
    catalog = load_catalog(environment)
    decoder = MessageDecoder(catalog.landed[CONTRACT], catalog.start)
    now = microseconds(datetime.now(UTC))
    encoded: list[bytes] = []
    for partition in range(PARTITIONS):
        part = values[partition::PARTITIONS]
        for first in range(0, len(part), BATCH_ROWS):
            batch = LogBatch(1, partition, now)
            some = part[first : first + BATCH_ROWS]
            sent = [now] * len(some)
            messages = Messages.of(some, sent, keys=[value[13:49] for value in some])
            batch.add(range(first, first + len(some)), messages, decoder.envelopes(some, sent, now))
            encoded.append(b"".join(batch.copy_data()))
    return encoded


def _empty(environment: Mapping[str, str], indexed: bool) -> None:
    with psycopg.connect(driver_url(environment["WAREHOUSE_URL"]), autocommit=True) as connection:
        connection.execute("TRUNCATE landing.registrations, landing.hours, landing.offsets")
        if not indexed:
            for name in INDEXES:
                connection.execute(f"DROP INDEX IF EXISTS landing.{name}")
    if indexed:
        prepare_warehouse(environment["WAREHOUSE_URL"], load_catalog(environment))
    with psycopg.connect(driver_url(environment["WAREHOUSE_URL"]), autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def _copy(environment: Mapping[str, str], batches: list[bytes]) -> float:
    with psycopg.connect(driver_url(environment["WAREHOUSE_URL"])) as connection:
        started = time.perf_counter()
        for batch in batches:
            with connection.transaction(), connection.cursor().copy(copy_statement(CONTRACT)) as copy:
                copy.write(batch)
        return time.perf_counter() - started


def _land(environment: Mapping[str, str], folder: Path, events: int, members: int) -> tuple[float, list[float]]:
    """Return events a second from the first commit to the last, and each lander's peak memory in MB."""
    with _landers(environment, folder, members) as processes:
        with psycopg.connect(driver_url(environment["WAREHOUSE_URL"]), autocommit=True) as connection:

            def landed() -> int:
                row = connection.execute("SELECT coalesce(sum(next), 0)::bigint FROM landing.offsets").fetchone()
                return row[0] if row else 0

            while (first := landed()) == 0:
                time.sleep(0.005)
            started = time.perf_counter()
            while landed() < events:
                time.sleep(0.02)
            seconds = time.perf_counter() - started
        megabytes = [_peak_megabytes(process.pid) for process in processes]
    return (events - first) / seconds, megabytes


@contextmanager
def _landers(environment: Mapping[str, str], folder: Path, members: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    group = f"bench-{time.monotonic_ns()}"
    with (folder / "lander.log").open("ab") as log:
        processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "incident_pipelines.cli",
                    "landing",
                    "run",
                    "--member",
                    str(n),
                    "--group",
                    group,
                ],
                env={**os.environ, **environment},
                stderr=log,
            )
            for n in range(members)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)


def _peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _shares(environment: Mapping[str, str]) -> str:
    with psycopg.connect(driver_url(environment["WAREHOUSE_URL"])) as connection:
        rows = connection.execute(
            "SELECT owner, count(*), sum(next) FROM landing.offsets WHERE topic = %s GROUP BY owner ORDER BY owner",
            (CONTRACT,),
        ).fetchall()
    return "; ".join(f"{owner}: {count} partitions, {landed:,} events" for owner, count, landed in rows)


if __name__ == "__main__":
    main()
