"""Every committed record is exactly one row of the log and no aborted one is there, whatever is killed when."""

import json
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.stages.landing.state import landing_status
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines_tests.builders import order_event, orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import (
    LanderProcess,
    RememberingProducer,
    landed_rows,
    lander,
    query,
    wait_for,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PARTITIONS = 4
FAILPOINTS = ("before_fence", "after_fence", "after_copy", "before_commit", "after_commit")


class Stream:
    """A producer that runs until told to stop.

    30 % of its transactions abort. One event in ten comes again, some with another amount; one in twenty is bad.
    """

    def __init__(self, producer: RememberingProducer, rng: random.Random) -> None:
        self.producer = producer
        self._rng = rng
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            sent: list[dict[str, Any]] = []
            while not self._stop.is_set():
                events = [self._event() for _ in range(self._rng.randint(1, 200))]
                again = self._rng.sample(sent, min(len(sent), len(events) // 10))
                events += [{**event, "amount": self._rng.choice([event["amount"], 7])} for event in again]
                values = [json.dumps(event, separators=(",", ":")).encode() for event in events]
                self.producer.send([*values], abort=self._rng.random() < 0.3)
                sent = events
        except BaseException as failure:
            self._failure = failure

    def _event(self) -> dict[str, Any]:
        minute = self._rng.randrange(300)
        return order_event(
            amount=-1 if self._rng.random() < 0.05 else 9.99,
            occurred_at=f"2026-03-01T{10 + minute // 60:02}:{minute % 60:02}:00Z",
        )

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert self._failure is None, self._failure


@pytest.fixture
def setting(
    own_databases: Databases, new_topic: Callable[..., str], tmp_path: Path
) -> tuple[Mapping[str, str], str, RememberingProducer]:
    """Variables of a lander, its topic, and a producer for it."""
    topic = new_topic("orders", partitions=PARTITIONS)
    catalog, variables = orders_catalog(tmp_path / "catalog", topic, quarantine_share=1)
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    variables = {**own_databases.environment("lander"), **variables, "INCIDENT_PIPELINES_START": ""}
    variables["PUBLISHER_URL"] = own_databases.url("warehouse", "publisher")
    bootstrap_servers = own_databases.stack.bootstrap_servers
    return variables, topic, RememberingProducer(bootstrap_servers, topic, f"tx-{topic}")


def assert_exactly_once(variables: Mapping[str, str], producer: RememberingProducer) -> None:
    """Wait until nothing is left to land, then compare the log with what was acknowledged, record by record."""

    def caught_up() -> bool:
        statuses = landing_status(variables)
        return len(statuses) == PARTITIONS and all(status.lag == 0 for status in statuses)

    wait_for(caught_up, "lander has caught up")
    landed = landed_rows(variables["WAREHOUSE_URL"], "orders")
    positions = [(partition, position) for partition, position, *_ in landed]
    assert len(positions) == len(set(positions))
    assert {(partition, position): value for partition, position, value, *_ in landed} == producer.committed
    assert producer.aborted
    assert not producer.aborted & set(positions)
    _assert_each_event_is_in_one_place(variables, producer)


def _assert_each_event_is_in_one_place(variables: Mapping[str, str], producer: RememberingProducer) -> None:
    """Publish everything; each acknowledged event id is one raw row, a dead letter or quarantined."""
    catalog = load_catalog(variables)
    engine = postgres_engine(variables["PUBLISHER_URL"], "test")
    while stale_windows(engine, catalog):
        for outcome in refresh(engine, catalog, owner="test"):
            assert isinstance(outcome, PublishedWindow), outcome
    engine.dispose()
    copies: dict[str, set[float]] = {}
    for value in producer.committed.values():
        event = json.loads(value or b"{}")
        copies.setdefault(event["event_id"], set()).add(event["amount"])
    bad = {event_id for event_id, amounts in copies.items() if -1 in amounts}
    conflicting = {event_id for event_id, amounts in copies.items() if len(amounts) > 1 and event_id not in bad}
    url = variables["PUBLISHER_URL"]
    raw = [str(row[0]) for row in query(url, "SELECT event_id FROM raw.orders")]
    dead = {str(row[0]) for row in query(url, "SELECT event_id FROM landing.dead_letters")}
    quarantined = {str(row[0]) for row in query(url, "SELECT key FROM landing.quarantine")}
    assert len(raw) == len(set(raw))
    assert dead == bad
    assert quarantined == conflicting
    # A bad event may come again with a good amount: then the good copy is the one that counts.
    mended = {event_id for event_id in bad if 7 in copies[event_id]}
    assert set(raw) == (copies.keys() - bad - conflicting) | mended


def test_killed_at_each_commit_point(
    setting: tuple[Mapping[str, str], str, RememberingProducer], tmp_path: Path, rng: random.Random
) -> None:
    variables, topic, producer = setting
    stream = Stream(producer, rng)
    for name in FAILPOINTS:
        failpoint = f"land.{name}={rng.randint(1, 6)}"
        with lander(variables, tmp_path / "log", group=topic, failpoints=failpoint) as victim:
            assert victim.process.wait(60) == -signal.SIGKILL, (tmp_path / "log").read_text()
    stream.finish()
    with lander(variables, tmp_path / "log", group=topic):
        assert_exactly_once(variables, producer)


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.drill)])
def test_killed_at_random(
    setting: tuple[Mapping[str, str], str, RememberingProducer], tmp_path: Path, rng: random.Random, kills: int
) -> None:
    variables, topic, producer = setting
    stream = Stream(producer, rng)
    for _ in range(kills):
        before = _epochs(variables)
        victim = LanderProcess(variables, tmp_path / "log", group=topic)
        wait_for(lambda before=before: _epochs(variables) > before, "lander has claimed its partitions")
        with pytest.raises(subprocess.TimeoutExpired):
            victim.process.wait(rng.uniform(0, 0.7))
        victim.kill()
    stream.finish()
    with lander(variables, tmp_path / "log", group=topic):
        assert_exactly_once(variables, producer)


def test_second_lander_joins_and_a_zombie_wakes(
    setting: tuple[Mapping[str, str], str, RememberingProducer], tmp_path: Path, rng: random.Random
) -> None:
    variables, topic, producer = setting
    stream = Stream(producer, rng)
    with lander(variables, tmp_path / "log0", group=topic, member="0") as first:
        wait_for(lambda: _epochs(variables) >= PARTITIONS, "first lander has its partitions")
        with lander(variables, tmp_path / "log1", group=topic, member="1"):
            wait_for(lambda: _owners(variables) == {"lander 0": 2, "lander 1": 2}, "partitions are shared evenly")
            first.signal(signal.SIGSTOP)
            wait_for(lambda: _owners(variables) == {"lander 1": 4}, "second lander has taken over")
            first.signal(signal.SIGCONT)
            wait_for(lambda: _owners(variables) == {"lander 0": 2, "lander 1": 2}, "the zombie is a member again")
            stream.finish()
            assert_exactly_once(variables, producer)


def _epochs(variables: Mapping[str, str]) -> int:
    return int(query(variables["WAREHOUSE_URL"], "SELECT coalesce(sum(epoch), 0) FROM landing.offsets")[0][0])


def _owners(variables: Mapping[str, str]) -> dict[str, int]:
    rows = query(variables["WAREHOUSE_URL"], "SELECT owner, count(*) FROM landing.offsets GROUP BY owner")
    return {str(owner): count for owner, count in rows}
