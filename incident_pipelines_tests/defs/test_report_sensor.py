"""The sensor that makes reports, as Dagster evaluates it."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.defs.incidents.report_sensor import reports_sensor
from incident_pipelines.defs.resources import PostgresResource
from incident_pipelines.stages.incidents.by_hand import Report, open_incident
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.stack
def test_a_tick_makes_what_is_due_once(own_databases: Databases, tmp_path: Path) -> None:
    catalog, _ = orders_catalog(tmp_path)
    prepare_control(own_databases.url("control"))
    people = postgres_engine(own_databases.url("control"), "people")
    open_incident(people, catalog, Report("data_loss", "lost", ("orders",)), Actor("person", "ana"), NOON)
    people.dispose()
    folder = tmp_path / "reports"
    sensor = reports_sensor(catalog, clock=lambda: NOON, environment={"INCIDENT_PIPELINES_REPORTS": str(folder)})
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    control = PostgresResource(url=own_databases.url("control", "publisher"))

    def tick() -> str | None:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(instance=instance, resources={"control": control}) as context,
        ):
            return sensor.evaluate_tick(context).skip_message

    assert tick() == "INC-1/01-detected made"
    assert (folder / "INC-1" / "01-detected.md").read_text().startswith("# INC-1 · P2 · detected: lost")
    assert tick() == "no report is due"
