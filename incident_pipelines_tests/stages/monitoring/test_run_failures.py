"""A job whose runs fail is an incident that waits for a run that succeeds, and is over by itself then."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.core.incidents.course import HELD_FOR, course_of
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.incidents.contain import contain_incident
from incident_pipelines.stages.incidents.exit_criteria import look_at_exit
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.monitoring.run_failures import EndedRun, Watched, watch_runs
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

FAILED = EndedRun("r-1", NOW - timedelta(minutes=2), "no disk")
SUCCEEDED = EndedRun("r-2", NOW)


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, new_topic("orders"), rng, events=5)
    yield opened
    opened.close()


def next_of(shop: Shop, incident_id: str) -> str:
    page = shop.page(incident_id)
    return course_of(page.incident, page.signals, "act", NOW).next


def test_it_waits_for_a_run_that_succeeds_and_is_over_then(shop: Shop) -> None:
    assert watch_runs(shop.control, {"nightly": FAILED, "hourly": None}) == Watched(("nightly",), ())
    assert take_signals(shop.control, shop.catalog, NOW).opened == ("INC-1",)
    one = shop.incident("INC-1")
    assert (one.type, one.cause, one.severity, one.source) == ("pipeline_failure", "run_failed", "P1", "run_failure")
    assert (one.datasets, one.began_at) == (("nightly",), FAILED.ended_at)
    assert shop.page("INC-1").runbooks == ("docs/runbooks/run_failed.md",)
    contain_incident(shop.control, shop.warehouse, shop.catalog, shop.variables, "INC-1", RUN, NOW)
    assert next_of(shop, "INC-1") == "wait"
    assert watch_runs(shop.control, {"nightly": FAILED}) == Watched((), ())
    assert watch_runs(shop.control, {"nightly": SUCCEEDED}) == Watched((), ("nightly",))
    assert next_of(shop, "INC-1") == "run"
    assert shop.recover("INC-1") == "recovered"
    sensor = Actor("sensor", "open_incidents_sensor")
    assert look_at_exit(shop.control, shop.warehouse, shop.catalog, "INC-1", sensor, NOW + HELD_FOR) == ()
    assert shop.incident("INC-1").state == "resolved"


def test_each_job_is_an_incident_of_its_own_and_begins_again_when_it_fails_again(shop: Shop) -> None:
    watch_runs(shop.control, {"nightly": FAILED, "hourly": FAILED})
    assert take_signals(shop.control, shop.catalog, NOW).opened == ("INC-1", "INC-2")
    watch_runs(shop.control, {"nightly": SUCCEEDED, "hourly": FAILED})
    contain_incident(shop.control, shop.warehouse, shop.catalog, shop.variables, "INC-1", RUN, NOW)
    assert shop.recover("INC-1") == "recovered"
    watch_runs(shop.control, {"nightly": FAILED, "hourly": FAILED})
    assert take_signals(shop.control, shop.catalog, NOW).reopened == ("INC-1",)


def test_of_a_job_of_which_nothing_is_known_any_more_the_signal_stays(shop: Shop) -> None:
    watch_runs(shop.control, {"nightly": FAILED})
    assert watch_runs(shop.control, {"nightly": None}) == Watched((), ())
    assert watch_runs(shop.control, {}) == Watched((), ("nightly",))
