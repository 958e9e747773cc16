"""Who works on an incident does it alone, and for no longer than its connection lives."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.errors import RecoveryOwned
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.recovery.work import Work, alone
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = pytest.mark.stack


@pytest.fixture
def two(databases: Databases) -> Iterator[tuple[Work, Work]]:
    """What two runs of one incident work with."""
    environment = databases.environment("publisher")
    catalog = load_catalog(environment)
    warehouse = postgres_engine(environment["WAREHOUSE_URL"], "test")
    first, second = (
        Work(
            postgres_engine(environment["CONTROL_DATABASE_URL"], f"INC-7 {name}"),
            warehouse,
            catalog,
            environment,
            "INC-7",
            Actor("run", name),
            f"INC-7 {name}",
        )
        for name in ("first", "second")
    )
    yield first, second
    for engine in (first.control, second.control, warehouse):
        engine.dispose()


def test_of_two_runs_of_an_incident_one_works_and_the_other_learns_its_name(two: tuple[Work, Work]) -> None:
    first, second = two
    for owner, other in ((first, second), (second, first)):
        with alone(owner):
            with pytest.raises(RecoveryOwned, match=f"INC-7 is being recovered by {owner.owner}"), alone(other):
                raise AssertionError("two are alone")
            with alone(replace(other, incident_id="INC-8")):
                pass


def test_who_is_cut_off_is_the_owner_no_longer(databases: Databases, two: tuple[Work, Work]) -> None:
    first, second = two
    sessions = (
        "FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()"
    )
    with alone(first):
        # For hours: no transaction may stay open.
        assert query(databases.url("control"), f"SELECT a.application_name, a.state {sessions}") == [
            ("INC-7 first", "idle")
        ]
        query(databases.url("control"), f"SELECT pg_terminate_backend(pid, 5000) {sessions}")
        with alone(second):
            pass
    with alone(first):
        pass
