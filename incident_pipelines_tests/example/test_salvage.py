"""Captured payments without an account are completed once by the app's own call; the rest is listed for outreach."""

import csv
import stat
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog, load_salvages
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.salvage import Salvage, Salvages
from incident_pipelines.example.service.app_http import AppServer
from incident_pipelines.example.visits import SignUp, World, draw_visits
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines.stages.recovery.salvage import Salvaged, complete, unfinished
from incident_pipelines.stages.recovery.salvage_export import export_left
from incident_pipelines_tests.example.conftest import Example
from incident_pipelines_tests.example.test_service import Service
from incident_pipelines_tests.landing_tools import query

pytestmark = pytest.mark.stack

PERSON = Actor("person", "Ada", "ada")
CONTROL = "CONTROL_DATABASE_URL"


class Salvageable:
    """The example with its app's HTTP interface, and what salvage works with."""

    def __init__(self, example: Example, rng: Random) -> None:
        self.example = example
        self.service = Service(example)
        self.server = AppServer("http://127.0.0.1:0", self.service.sign_ups.complete)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.variables = {**example.environment, "APP_SERVICE_URL": f"http://127.0.0.1:{self.server.server_port}"}
        prepare_control(self.variables[CONTROL])
        self.catalog: Catalog = load_catalog(self.variables)
        self.salvages: Salvages = load_salvages(self.catalog, self.variables)
        self.salvage: Salvage = self.salvages.declared["captured_not_activated"]
        self.control: Engine = postgres_engine(self.variables[CONTROL], "tests")
        minutes = iter(lambda: rng.randrange(29_000_000, 30_000_000), None)
        self.drawn = (
            one.sign_up
            for minute in minutes
            for one in draw_visits(World(rng.randrange(2**32), 1.0), minute, late=False)
            if one.sign_up is not None and one.sign_up.failure_reason is None
        )

    def captured(self) -> SignUp:
        """A sign-up that was captured an hour ago and whose activation is due by now."""
        sign_up = next(self.drawn)
        assert self.service.sign_ups.accept(sign_up, sign_up.registration_id)
        deadline = time.monotonic() + 60
        with self.example.app() as app, self.example.billing() as billing:
            while self._step(app, sign_up) == "payment":
                assert time.monotonic() < deadline
                billing.execute("UPDATE payments SET capture_due_at = now() WHERE capture_due_at IS NOT NULL")
                self.service.billing.capture_due()
                self.service.sign_ups.advance(sign_up.registration_id)
            billing.execute("UPDATE payments SET captured_at = now() - interval '1 hour'")
        return sign_up

    def app(self, statement: str, sign_up: SignUp) -> None:
        with self.example.app() as app:
            app.execute(statement, (sign_up.registration_id,))  # pyright: ignore[reportArgumentType, reportCallIssue]

    def run(self, **options: object) -> Salvaged:
        return complete(
            self.control,
            self.catalog,
            self.salvages,
            self.salvage,
            self.variables,
            PERSON,
            calls_per_second=1_000,
            **options,  # pyright: ignore[reportArgumentType]
        )

    def keys(self) -> set[str]:
        return {one.key for one in unfinished(self.catalog, self.salvages, self.salvage, self.variables, now())}

    def events(self, sign_up: SignUp) -> int:
        with self.example.app() as app:
            row = app.execute(
                "SELECT count(*) FROM outbox WHERE correlation_id = %s AND event_type = 'account_activated'",
                (sign_up.registration_id,),
            ).fetchone()
        assert row
        return row[0]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.service.close()
        self.control.dispose()

    @staticmethod
    def _step(app: psycopg.Connection, sign_up: SignUp) -> str | None:
        statement = "SELECT step FROM sign_up_flows WHERE registration_id = %s"
        row = app.execute(statement, (sign_up.registration_id,)).fetchone()
        return row[0] if row else None


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def world(example: Example, rng: Random) -> Iterator[Salvageable]:
    world = Salvageable(example, rng)
    yield world
    world.close()


def test_what_is_captured_and_not_active_is_completed_once(world: Salvageable, tmp_path: Path) -> None:
    lost, stuck, failed, orphan = (world.captured() for _ in range(4))
    world.app("DELETE FROM sign_up_flows WHERE registration_id = %s", lost)
    world.app("UPDATE sign_up_flows SET next_attempt_at = 'infinity' WHERE registration_id = %s", stuck)
    world.app("UPDATE registrations SET status = 'failed', failure_reason = 'x' WHERE registration_id = %s", failed)
    world.app("DELETE FROM sign_up_flows WHERE registration_id = %s", orphan)
    world.app("DELETE FROM registrations WHERE registration_id = %s", orphan)
    everybody = {one.registration_id for one in (lost, stuck, failed, orphan)}
    assert world.keys() == everybody
    report = by_hand.Report("data_loss", "accounts were not activated", ("registrations",))
    incident_id = by_hand.open_incident(world.control, world.catalog, report, PERSON, now()).incident_id

    first = world.run(incident_id=incident_id, limit=1)
    done = world.run(incident_id=incident_id)
    assert first.found == 1
    assert first.completed + done.completed == 2
    assert done.share == 0.5
    assert {one.candidate.key for one in done.left} == {failed.registration_id, orphan.registration_id}
    assert [world.events(one) for one in (lost, stuck, failed)] == [1, 1, 0]
    assert world.keys() == {failed.registration_id, orphan.registration_id}
    # The invoice follows as after any activation.
    for one in (lost, stuck):
        world.service.finish(world.example, one.registration_id)
    # A third run asks for nothing that was refused for good, and completes nothing twice.
    again = world.run(incident_id=incident_id)
    assert (again.completed, len(again.left)) == (0, 2)
    assert [world.events(one) for one in (lost, stuck)] == [1, 1]
    assert query(
        world.variables[CONTROL], "SELECT state, count(*), max(attempts) FROM incidents.salvaged GROUP BY 1 ORDER BY 1"
    ) == [("completed", 2, 1), ("refused", 2, 1)]
    told = query(
        world.variables[CONTROL], "SELECT kind FROM incidents.timeline WHERE starts_with(kind, 'action') ORDER BY entry"
    )
    assert told == [("action_intended",), ("action_done",)] * 3

    path = tmp_path / "outreach.csv"
    assert export_left(path, world.catalog, world.salvages, world.salvage, world.variables, done.left) == 2
    rows = {row["key"]: row for row in csv.DictReader(path.open(encoding="utf-8"))}
    assert rows[failed.registration_id]["email"] == f"{failed.user_id[:2]}…"
    assert "409: " in rows[failed.registration_id]["reason"]
    assert "404: " in rows[orphan.registration_id]["reason"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    export_left(path, world.catalog, world.salvages, world.salvage, world.variables, done.left, with_personal_data=True)
    assert f"{failed.user_id}@" in path.read_text(encoding="utf-8")


def test_a_payment_that_is_not_captured_activates_nobody(world: Salvageable) -> None:
    sign_up = world.captured()
    with world.example.billing() as billing:
        billing.execute(
            "UPDATE payments SET status = 'authorized' WHERE registration_id = %s", (sign_up.registration_id,)
        )
    with pytest.raises(Exception, match="is authorized, not captured"):
        world.service.sign_ups.complete(sign_up.registration_id)
    assert world.events(sign_up) == 0


def test_an_app_that_is_away_is_not_asked_for_long_and_nothing_is_given_up(world: Salvageable) -> None:
    sign_ups = [world.captured() for _ in range(2)]
    away = {**world.variables, "APP_SERVICE_URL": "http://127.0.0.1:1"}
    done = complete(world.control, world.catalog, world.salvages, world.salvage, away, PERSON, calls_per_second=1_000)
    assert (done.found, done.completed, done.share) == (2, 0, 0.0)
    assert query(world.variables[CONTROL], "SELECT DISTINCT state FROM incidents.salvaged") == [("unanswered",)]
    assert world.run().completed == len(sign_ups)
    assert query(world.variables[CONTROL], "SELECT DISTINCT state, attempts FROM incidents.salvaged") == [
        ("completed", 2)
    ]
