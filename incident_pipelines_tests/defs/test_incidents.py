"""The sensor that makes signals into incidents, as Dagster evaluates it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.defs.incidents.sensors import new_signals_sensor
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incidents.by_hand import resolve
from incident_pipelines.stages.incidents.pages import listed_incidents
from incident_pipelines.stages.prepare import prepare_control, prepare_warehouse
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
    prepare_warehouse(own_databases.url("warehouse"), catalog)
    sensor = new_signals_sensor(catalog, clock=lambda: NOON, environment={})
    control = PostgresResource(url=own_databases.url("control", "publisher"))
    warehouse = PostgresResource(url=own_databases.url("warehouse", "publisher"))

    def tick() -> str | None:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(
                instance=instance, resources={"control": control, "warehouse": warehouse}
            ) as context,
        ):
            ticked = sensor.evaluate_tick(context)
        assert not ticked.run_requests
        return ticked.skip_message

    assert tick() == "no new signals"
    insert = (
        "INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, occurred_at)"
        " VALUES (%s, 'critical', 'orders', %s, %s, %s, now())"
    )
    hour = (NOON, NOON + timedelta(hours=1))
    query(own_databases.url("control"), insert, "window_refused", *hour, json.dumps({"summary": "odd"}))
    assert tick() == "1 signal taken: INC-1 opened; INC-1 contained"
    assert tick() == "no new signals"
    query(own_databases.url("control"), insert, "window_refused", *hour, json.dumps({}))
    assert tick() == "1 signal taken: INC-1 joined"
    # A lander that cannot be started from here does not keep the other incident from being contained.
    query(own_databases.url("control"), insert, "landing_stalled", None, None, json.dumps({}))
    query(own_databases.url("control"), insert, "topic_recreated", None, None, json.dumps({}))
    assert tick() == "2 signals taken: INC-2 opened, INC-3 opened; INC-2 escalated; INC-3 contained"
    assert tick() == "no new signals"
    engine = postgres_engine(own_databases.url("control"), "test")
    one, *_ = listed_incidents(engine)
    assert (one.incident_id, one.opened_at, one.signals, one.state) == ("INC-1", NOON, 2, "contained")
    held = "SELECT kind, window_start, window_end FROM publication.holds"
    assert query(own_databases.url("warehouse"), held) == [("quarantine", *hour)]
    resolve(engine, "INC-1", "false alarm", Actor("person", "ana"), NOON)
    engine.dispose()
    assert tick() == "INC-1 released"
    assert query(own_databases.url("warehouse"), held) == []


def test_without_the_database_the_tick_fails_and_says_why(tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    control = warehouse = PostgresResource(url="postgresql+psycopg://publisher@127.0.0.1:1/none")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, resources={"control": control, "warehouse": warehouse}) as context,
        pytest.raises(Exception, match=r"(?s).*") as failed,
    ):
        new_signals_sensor(catalog).evaluate_tick(context)
    told = f"{failed.value} {failed.value.__cause__}"
    assert "no incidents can be opened: control database cannot be reached" in told
