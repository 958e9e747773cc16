"""Landers as real processes, producers that remember what was acknowledged, and the state both have to agree on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Message, Producer
from psycopg import sql

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.adapters.recovery_sources.source import Problems, RecoverySource
from incident_pipelines.core.contracts.decoder import EPOCH_MILLISECONDS
from incident_pipelines.core.windows import TimeWindow


def replayed(
    source: RecoverySource, dataset: str, window: TimeWindow, problems: Problems
) -> list[tuple[int, bytes | None, bytes]]:
    """(milliseconds since 1970-01-01 UTC, key, value) of each message that a source can replay."""
    return [
        ((sent or 0) // 1000 + EPOCH_MILLISECONDS, key, value or b"")
        for batch in source.replayable(dataset, window, problems)
        for sent, key, value in zip(batch.messages.sent, batch.messages.keys, batch.messages.values, strict=True)
    ]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Return the first true value of a condition; fail with `what` when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class LanderProcess:
    """`landing run` in a process of its own."""

    def __init__(
        self, variables: Mapping[str, str], log: Path, member: str = "0", group: str = "g", failpoints: str = ""
    ) -> None:
        environment = {**os.environ, **variables, ENVIRONMENT_VARIABLE: failpoints}
        command = [
            sys.executable,
            "-m",
            "incident_pipelines.cli",
            "landing",
            "run",
            "--member",
            member,
            "--group",
            group,
        ]
        self._log = log.open("ab")
        self.process = subprocess.Popen(command, env=environment, stderr=self._log, stdout=self._log)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL and wait."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM; SIGKILL if that does not end it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


@contextmanager
def lander(variables: Mapping[str, str], log: Path, **settings: str) -> Iterator[LanderProcess]:
    """A lander that ends with the block."""
    running = LanderProcess(variables, log, **settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.signal(signal.SIGCONT)
            running.stop()


@dataclass
class RememberingProducer:
    """Sends in transactions, some of them aborted, and remembers what the broker acknowledged as committed.

    Args:
        committed: (partition, offset) → value of every committed record.
        aborted: (partition, offset) of records whose transaction was aborted.
    """

    bootstrap_servers: str
    topic: str
    transactional_id: str
    committed: dict[tuple[int, int], bytes | None] = field(default_factory=dict[tuple[int, int], bytes | None])
    aborted: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def __post_init__(self) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "transactional.id": self.transactional_id,
                "linger.ms": 1,
                "log_level": 0,
            }
        )
        self._producer.init_transactions(30)

    def send(self, values: list[bytes | None], *, abort: bool = False, partition: int | None = None) -> None:
        """Send values in one transaction and commit or abort it."""
        offsets: dict[tuple[int, int], bytes | None] = {}

        def delivered(error: Any, message: Message) -> None:
            assert error is None, error
            number, offset = message.partition(), message.offset()
            assert number is not None
            assert offset is not None
            offsets[number, offset] = message.value()

        self._producer.begin_transaction()
        for value in values:
            # -1 leaves the choice to the partitioner.
            number = -1 if partition is None else partition
            self._producer.produce(self.topic, value=value, partition=number, on_delivery=delivered)
        self._producer.flush(30)
        if abort:
            self._producer.abort_transaction(30)
            self.aborted |= offsets.keys()
        else:
            self._producer.commit_transaction(30)
            self.committed |= offsets


def landed_rows(warehouse_url: str, contract: str) -> list[tuple[Any, ...]]:
    """Return (partition, position, value, reason, reason_path) of every row of a log that came from a topic."""
    with psycopg.connect(driver_url(warehouse_url)) as connection:
        return connection.execute(
            sql.SQL(
                "SELECT partition, position, value, reason, reason_path FROM {} l "
                "JOIN landing.origins USING (origin_id) WHERE kind = 'topic' ORDER BY 1, 2"
            ).format(sql.Identifier("landing", contract))
        ).fetchall()


def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows."""
    with psycopg.connect(driver_url(url)) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []
