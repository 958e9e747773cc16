import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.backfill import AlreadyDone, publish_range
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Refused
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import Shop, close_shop, hours, instant, open_shop, order

pytestmark = pytest.mark.stack

DAY = [TimeWindow.hour_of(instant(f"10T{hour}")) for hour in range(24)]

RUN = """
import os, sys
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.publication.backfill import publish_range
from incident_pipelines_tests.stages.shop import instant
windows = [TimeWindow.hour_of(instant(f"10T{hour}")) for hour in range(24)]
engine = postgres_engine(os.environ["WAREHOUSE_URL"], "range")
for done in publish_range(engine, load_catalog(), "orders", windows, root_run_id="r1", owner="run r1"):
    print(type(done).__name__, flush=True)
"""


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    shop.plans("basic")
    yield shop
    close_shop(shop)


def run_range(shop: Shop, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **shop.variables, ENVIRONMENT_VARIABLE: failpoints}
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("failpoint", "kept"), [("publish.checked=8", 7), ("publish.before_commit=8", 7), ("publish.after_commit=8", 8)]
)
def test_a_killed_range_goes_on_where_it_was(shop: Shop, failpoint: str, kept: int) -> None:
    shop.append("orders", *(order(f"{hour}-{n}", f"10T{hour}") for hour in range(24) for n in range(3)))
    killed = run_range(shop, failpoint)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert shop.rows("SELECT count(*), sum(changed_rows) FROM publication.progress") == [(kept, 3 * kept)]
    assert shop.rows("SELECT count(*) FROM raw.orders") == [(3 * kept,)]
    # What the first try had done is not done again: this would come back.
    shop.execute("UPDATE raw.orders SET amount = 0 WHERE occurred_at = :at", at=instant("10T2"))
    again = run_range(shop)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == ["AlreadyDone"] * kept + ["PublishedWindow"] * (24 - kept)
    assert shop.rows("SELECT count(*), count(*) FILTER (WHERE amount = 0) FROM raw.orders") == [(72, 3)]


def test_another_run_does_everything_again_and_changes_nothing(shop: Shop) -> None:
    shop.append("orders", *(order(f"{hour}-{n}", f"10T{hour}") for hour in range(24) for n in range(3)))
    first = list(publish_range(shop.warehouse, shop.catalog, "orders", DAY, root_run_id="r1", owner="run r1"))
    shop.execute("UPDATE raw.orders SET amount = 0 WHERE order_id = '5-1'")
    second = list(publish_range(shop.warehouse, shop.catalog, "orders", DAY, root_run_id="r2", owner="run r2"))
    third = list(publish_range(shop.warehouse, shop.catalog, "orders", DAY, root_run_id="r3", owner="run r3"))
    changed = [
        [window.changed_rows for window in run if isinstance(window, PublishedWindow)] for run in (first, second, third)
    ]
    assert changed == [[3] * 24, [1 if hour == 5 else 0 for hour in range(24)], [0] * 24]


def test_a_window_with_newer_inputs_is_done_again_by_a_retry(shop: Shop) -> None:
    shop.append("orders", order("a", "10T0"), order("b", "10T1"))
    windows = hours("10T0", "10T1")
    list(publish_range(shop.warehouse, shop.catalog, "orders", windows, root_run_id="r1", owner="run"))
    shop.append("orders", order("c", "10T1"))
    again = list(publish_range(shop.warehouse, shop.catalog, "orders", windows, root_run_id="r1", owner="run"))
    assert [type(window) for window in again] == [AlreadyDone, PublishedWindow]


def test_marts_and_whole_datasets_have_progress_too(shop: Shop) -> None:
    shop.append("orders", order("a", "10T0"))
    list(publish_range(shop.warehouse, shop.catalog, "orders", hours("10T0"), root_run_id="r1", owner="run"))
    for dataset, window in (
        ("order_states", TimeWindow.day_of(instant("10"))),
        ("plans", shop.catalog.whole),
    ):
        for expected in (PublishedWindow, AlreadyDone):
            (done,) = publish_range(shop.warehouse, shop.catalog, dataset, [window], root_run_id="r1", owner="run")
            assert isinstance(done, expected)


def test_a_refused_window_does_not_keep_the_others_and_is_not_done(shop: Shop) -> None:
    shop.append("orders", order("a", "10T0", plan_id="none"), order("b", "10T1"))
    for _ in range(2):
        first, _second = publish_range(
            shop.warehouse, shop.catalog, "orders", hours("10T0", "10T1"), root_run_id="r1", owner="run"
        )
        assert isinstance(first, Refused)
    assert shop.rows("SELECT window_start FROM publication.progress") == [(instant("10T1"),)]


def test_what_comes_before_a_window_is_asked_only_where_it_is_not_done(shop: Shop) -> None:
    shop.append("orders", order("a", "10T0"), order("b", "10T1"))
    asked: list[TimeWindow] = []
    windows = hours("10T0", "10T1")
    list(
        publish_range(
            shop.warehouse, shop.catalog, "orders", windows[:1], root_run_id="r", owner="run", before=asked.append
        )
    )
    list(
        publish_range(
            shop.warehouse, shop.catalog, "orders", windows, root_run_id="r", owner="run", before=asked.append
        )
    )
    assert asked == windows

    def gone(_: TimeWindow) -> None:
        raise SourceUnavailable("billing is down")

    with pytest.raises(SourceUnavailable):
        list(publish_range(shop.warehouse, shop.catalog, "orders", windows, root_run_id="x", owner="run", before=gone))
