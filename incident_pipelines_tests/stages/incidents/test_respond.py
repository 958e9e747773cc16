"""Signals become incidents: each once, one for one cause, whoever takes them and whatever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.incidents.pages import IncidentPage, incident_page, listed_incidents
from incident_pipelines.stages.incidents.respond import Taken, take_signals
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = Actor("run", "r-1")


@dataclass
class Control:
    """A control database and those who work on it, Dagster's role first."""

    databases: Databases
    catalog: Catalog
    variables: dict[str, str]
    engine: Engine

    def raise_signal(
        self,
        kind: str = "offsets_aged_out",
        dataset: str = "orders",
        hour: int | None = None,
        at: datetime = NOON,
        severity: str = "critical",
        **detail: Any,
    ) -> int:
        start = None if hour is None else NOON.replace(hour=hour)
        ((signal_id,),) = query(
            self.databases.url("control"),
            "INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, occurred_at,"
            " raised_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING signal_id",
            kind,
            severity,
            dataset,
            start,
            start and start + HOUR,
            json.dumps({"summary": f"{kind} was seen", **detail}),
            at,
            at,
        )
        return signal_id

    def take(self, now: datetime = NOON) -> Taken:
        return take_signals(self.engine, self.catalog, now)

    def lead(self, incident_id: str, *states: Any) -> None:
        for target in states:
            page = self.page(incident_id)
            with self.engine.begin() as connection:
                change_state(connection, incident_id, page.incident.state, target, RUN, "on", NOON)

    def page(self, incident_id: str) -> IncidentPage:
        return incident_page(self.engine, self.catalog, incident_id, NOON)

    def members(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for incident_id, signal_id in query(
            self.databases.url("control"), "SELECT incident_id, signal_id FROM incidents.signals"
        ):
            found.setdefault(incident_id, set()).add(signal_id)
        return found


@pytest.fixture
def control(own_databases: Databases, tmp_path: Path) -> Iterator[Control]:
    catalog, variables = orders_catalog(tmp_path / "catalog")
    prepare_control(own_databases.url("control"))
    prepare_control(own_databases.url("control"))  # once more, as at every start
    engine = postgres_engine(own_databases.url("control", "publisher"), "test")
    yield Control(own_databases, catalog, {**own_databases.environment("publisher"), **variables}, engine)
    engine.dispose()


def test_a_signal_opens_an_incident_that_says_what_there_is(control: Control) -> None:
    raised = control.raise_signal(topic="orders", partition=2, records_at_most=12)
    assert control.take(NOON + HOUR) == Taken(1, ("INC-1",), (), ())
    page = control.page("INC-1")
    one = page.incident
    assert (one.type, one.cause, one.severity, one.state) == ("data_loss", "log_retention", "P0", "detected")
    assert (one.datasets, one.window, one.signals, one.source) == (("orders",), None, 1, "sensor")
    assert (one.began_at, one.detected_at, one.opened_at) == (NOON, NOON, NOON + HOUR)
    assert [s.signal_id for s in page.signals] == [raised]
    assert [(e.kind, e.actor, e.state_to) for e in page.entries] == [
        ("opened", "new_signals_sensor", "detected"),
        ("signal_joined", "new_signals_sensor", None),
    ]
    assert page.tampered == ()
    assert page.runbooks == ("docs/runbooks/offsets_aged_out.md",)
    assert page.told[0].owner == "shop team"


def test_the_same_signal_for_an_hour_is_one_incident(control: Control) -> None:
    for second in range(0, 3600, 30):
        control.raise_signal(at=NOON + timedelta(seconds=second))
        if second % 600 == 0:
            control.take(NOON + timedelta(seconds=second))
    assert control.take(NOON + HOUR).opened == ()
    (one,) = listed_incidents(control.engine)
    assert (one.signals, one.state, one.severity, one.revision) == (120, "detected", "P0", 1)
    assert len(control.members()["INC-1"]) == 120
    assert control.page("INC-1").tampered == ()


def test_two_causes_are_two_incidents(control: Control) -> None:
    lost, refused = control.raise_signal(), control.raise_signal("window_refused", hour=9, severity="page")
    apart = control.raise_signal("window_refused", hour=2, at=NOON - 3 * HOUR, severity="page")
    touching = control.raise_signal("window_refused", hour=10, at=NOON + HOUR, severity="page")
    unknown = control.raise_signal("never_heard_of", severity="warning")
    taken = control.take()
    assert (taken.signals, len(taken.opened)) == (5, 4)
    assert sorted(control.members().values(), key=min) == [{lost}, {refused, touching}, {apart}, {unknown}]
    assert [(one.cause, one.severity) for one in listed_incidents(control.engine)] == [
        ("log_retention", "P0"),
        ("rules_broken", "P1"),
        ("rules_broken", "P1"),
        ("never_heard_of", "P2"),
    ]


def test_a_graver_signal_raises_the_severity_and_a_lesser_one_lowers_nothing(control: Control) -> None:
    for severity in ("warning", "critical", "info"):
        control.raise_signal("window_refused", hour=9, severity=severity)
    control.take()
    page = control.page("INC-1")
    assert page.incident.severity == "P0"
    assert [e.text for e in page.entries if e.kind == "severity_raised"] == ["raised from P2 to P0 by signal 2"]


def test_wrong_again_after_recovery_begins_anew(control: Control) -> None:
    control.raise_signal("window_refused", hour=9)
    control.take()
    control.lead("INC-1", "contained", "scoped", "verifying", "recovered")
    assert control.page("INC-1").incident.recovered_at == NOON
    control.raise_signal("window_refused", hour=9)
    assert control.take() == Taken(1, (), ("INC-1",), ("INC-1",))
    one = control.page("INC-1").incident
    assert (one.state, one.recovered_at, one.contained_at) == ("detected", None, NOON)


def test_a_resolved_incident_takes_no_signal(control: Control) -> None:
    control.raise_signal()
    control.take()
    control.lead("INC-1", "contained", "scoped", "verifying", "recovered", "resolved")
    control.raise_signal()
    assert control.take().opened == ("INC-2",)


def test_growth_during_a_recovery_is_seen_by_whoever_verifies(control: Control) -> None:
    control.raise_signal("window_refused", hour=9)
    control.take()
    control.lead("INC-1", "contained", "scoped", "planned", "recovering")
    seen = control.page("INC-1").incident.revision
    control.raise_signal("window_refused", hour=10)
    assert control.take().reopened == ()
    control.lead("INC-1", "verifying")
    with control.engine.begin() as connection, pytest.raises(Exception, match="has grown to revision 2 since 1"):
        change_state(connection, "INC-1", "verifying", "recovered", RUN, "proven", NOON, revision=seen)
    assert control.page("INC-1").incident.state == "verifying"


def test_takers_at_once_open_one_incident_and_take_each_signal_once(control: Control) -> None:
    raised = {control.raise_signal(at=NOON + timedelta(seconds=n)) for n in range(40)}
    start = threading.Barrier(6)
    taken: list[Taken] = []
    failed: list[Exception] = []

    def take() -> None:
        engine = postgres_engine(control.databases.url("control", "publisher"), "taker")
        start.wait()
        try:
            for _ in range(10):
                taken.append(take_signals(engine, control.catalog, NOON, limit=7))
        except Exception as error:
            failed.append(error)
        engine.dispose()

    takers = [threading.Thread(target=take) for _ in range(6)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(60)
    assert failed == []
    assert sum(one.signals for one in taken) == 40
    assert [one.opened for one in taken if one.opened] == [("INC-1",)]
    assert control.members() == {"INC-1": raised}
    assert control.page("INC-1").tampered == ()


_TAKE = """
import os, sys
from datetime import datetime
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.stages.incidents.respond import take_signals
control = postgres_engine(os.environ["CONTROL_DATABASE_URL"], "t")
take_signals(control, load_catalog(), datetime.fromisoformat(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("respond.joined=1", False),
        ("respond.joined=3", False),
        ("respond.before_commit", False),
        ("respond.after_commit", True),
    ],
)
def test_killed_in_between_it_is_all_or_nothing_and_taken_up_again(control: Control, place: str, kept: bool) -> None:
    raised = {control.raise_signal("window_refused", hour=9) for _ in range(3)}
    other = control.raise_signal()
    killed = subprocess.run(
        [sys.executable, "-c", _TAKE, NOON.isoformat()],
        env={**os.environ, **control.variables, ENVIRONMENT_VARIABLE: place},
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert bool(control.members()) == kept
    wait_for(lambda: control.take().signals == 0, "all are taken")
    assert sorted(control.members().values(), key=len) == [{other}, raised]
    for one in listed_incidents(control.engine):
        assert control.page(one.incident_id).tampered == ()


def test_a_signal_that_commits_late_with_a_small_id_is_not_passed_over(control: Control) -> None:
    owner = postgres_engine(control.databases.url("control"), "late")
    with owner.connect() as late:
        late.execute(
            text(
                "INSERT INTO monitoring.signals (kind, severity, dataset, detail, occurred_at)"
                " VALUES ('window_refused', 'page', 'orders', '{}', now())"
            )
        )
        control.raise_signal()
        assert control.take().signals == 1
        late.commit()
    assert control.take().signals == 1
    owner.dispose()


def test_without_the_database_it_says_so(control: Control) -> None:
    gone = postgres_engine("postgresql+psycopg://publisher@127.0.0.1:1/none", "t")
    with pytest.raises(SourceUnavailable, match="control database cannot be reached"):
        take_signals(gone, control.catalog, NOON)


def test_the_catalog_says_how_much_may_be_done_alone(tmp_path: Path) -> None:
    catalog, variables = orders_catalog(tmp_path)
    assert catalog.mode == "propose"
    assert load_catalog({**variables, "INCIDENT_PIPELINES_MODE": "observe"}).mode == "observe"
    main = tmp_path / "catalog.yaml"
    main.write_text(main.read_text() + "response:\n  mode: act\n")
    assert load_catalog(variables).mode == "act"
    assert load_catalog({}).mode == "act"
    for wrong, message in (("everything", "one of observe, propose, act"), ("[act]", "'act'. is not known")):
        main.write_text(main.read_text().rsplit("response:", 1)[0] + f"response:\n  mode: {wrong}\n")
        with pytest.raises(Exception, match=f"catalog.yaml:4: response.mode: .*{message}"):
            load_catalog(variables)
    with pytest.raises(Exception, match="response mode 'panic' is not known"):
        load_catalog({**variables, "INCIDENT_PIPELINES_MODE": "panic"})
