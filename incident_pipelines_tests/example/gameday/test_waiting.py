"""A game day waits for the system to close its fault, also while the database is away that tells how far it is."""

from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.example.gameday import run
from incident_pipelines.example.gameday.accidental_delete import SCENARIO
from incident_pipelines.example.gameday.drill import Drill
from incident_pipelines.example.gameday.measure import Course
from incident_pipelines.example.gameday.scenario import Fault

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
FAULT = Fault(injured_at=NOW, breached_at=NOW, over_at=NOW, span=TimeWindow(NOW - DAY, NOW))
RECOVERING = Course("INC-1", "recovering", NOW)
RECOVERED = replace(RECOVERING, state="recovered")
NOBODY: Any = None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(run, "POLL_SECONDS", 0.0)
    return []


@pytest.fixture
def closed_port() -> Engine:
    return postgres_engine("postgresql://postgres@127.0.0.1:1/control", "test")


def drill(told: list[str]) -> Drill:
    return Drill({}, NOBODY, NOBODY, NOBODY, 1, Random(1), 1, told.append)


def test_a_database_that_is_killed_is_waited_for_and_told_once(
    told: list[str], closed_port: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = SourceUnavailable("control database cannot be reached: gone")
    looks = [RECOVERING, away, away, RECOVERING, RECOVERED]

    def look(*_: object) -> Course:
        found = looks.pop(0)
        if isinstance(found, SourceUnavailable):
            raise found
        return found

    monkeypatch.setattr(run, "course_of", look)
    monkeypatch.setattr(run, "approve_waiting_plans", lambda *_: [])
    assert run.wait_for_end(drill(told), closed_port, SCENARIO, FAULT, 900, "http://ui") == RECOVERED
    assert [line.partition(":")[0] for line in told] == [
        "INC-1 is recovering",
        "control database cannot be reached",
        "INC-1 is recovering",
        "INC-1 is recovered",
    ]


def test_one_that_stays_away_ends_the_wait(told: list[str], closed_port: Engine) -> None:
    with pytest.raises(SourceUnavailable, match="control database cannot be reached"):
        run.wait_for_end(drill(told), closed_port, SCENARIO, FAULT, 0, "http://ui")
