"""Every committed record is exactly one row of the log and no aborted one is there, whatever is killed when."""

import random
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from incident_pipelines.stages.landing_state import landing_status
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import order_bytes, orders_catalog
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
    """A producer that runs until told to stop: 30 % of its transactions abort, one value in ten comes again."""

    def __init__(self, producer: RememberingProducer, rng: random.Random) -> None:
        self.producer = producer
        self._rng = rng
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            sent: list[bytes] = []
            while not self._stop.is_set():
                values = [order_bytes() for _ in range(self._rng.randint(1, 200))]
                values += self._rng.sample(sent, min(len(sent), len(values) // 10))
                self.producer.send([*values], abort=self._rng.random() < 0.3)
                sent = values
        except BaseException as failure:
            self._failure = failure

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
    catalog, variables = orders_catalog(tmp_path / "catalog", topic)
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    variables = {**own_databases.environment("lander"), **variables, "INCIDENT_PIPELINES_START": ""}
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


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.drill)])
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
