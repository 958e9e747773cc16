"""The sensor that makes signals into incidents, as Dagster evaluates it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.defs.incidents.sensors import new_signals_sensor
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incident_pages import listed_incidents
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_sensor_runs_by_default_and_as_often_as_it_can(tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    sensor = new_signals_sensor(catalog)
    assert sensor.name == "new_signals_sensor"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 1


@pytest.mark.stack
def test_a_tick_takes_what_is_new_and_says_what_came_of_it(own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    prepare_control(own_databases.url("control"))
    sensor = new_signals_sensor(catalog, clock=lambda: NOON)
    control = PostgresResource(url=own_databases.url("control", "publisher"))

    def tick() -> str | None:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(instance=instance, resources={"control": control}) as context,
        ):
            ticked = sensor.evaluate_tick(context)
        assert not ticked.run_requests
        return ticked.skip_message

    assert tick() == "no new signals"
    insert = (
        "INSERT INTO monitoring.signals (kind, severity, dataset, detail, occurred_at)"
        " VALUES ('offsets_aged_out', 'critical', 'orders', %s, now())"
    )
    query(own_databases.url("control"), insert, json.dumps({"summary": "lost"}))
    assert tick() == "1 signal taken: INC-1 opened"
    assert tick() == "no new signals"
    query(own_databases.url("control"), insert, json.dumps({}))
    assert tick() == "1 signal taken: INC-1 joined"
    engine = postgres_engine(own_databases.url("control"), "test")
    (one,) = listed_incidents(engine)
    engine.dispose()
    assert (one.incident_id, one.opened_at, one.signals) == ("INC-1", NOON, 2)


def test_without_the_database_the_tick_fails_and_says_why(tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    control = PostgresResource(url="postgresql+psycopg://publisher@127.0.0.1:1/none")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, resources={"control": control}) as context,
        pytest.raises(Exception, match=r"(?s).*") as failed,
    ):
        new_signals_sensor(catalog).evaluate_tick(context)
    told = f"{failed.value} {failed.value.__cause__}"
    assert "no incidents can be opened: control database cannot be reached" in told
