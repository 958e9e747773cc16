"""Reports are made, written and sent once each, whatever dies in between, and keep nothing else from going on."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.failpoints import ENVIRONMENT_VARIABLE
from incident_pipelines.adapters.notify.apprise import addresses_for, send
from incident_pipelines.adapters.notify.files import write_report
from incident_pipelines.adapters.stores.incidents import change_state, read_incident
from incident_pipelines.adapters.stores.incidents_findings import store_finding
from incident_pipelines.adapters.stores.incidents_reports import StoredReport, reports_of
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.incidents.incident import Actor, State
from incident_pipelines.core.incidents.scope import Scope, Suspect
from incident_pipelines.core.recovery.loss import DatasetLoss, LossStatement, Restated
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines.stages.reports.publish_reports import MAX_ATTEMPTS, live_report, publish_reports
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ANA = Actor("person", "ana")
RUN = Actor("run", "r-1")
WINDOW = TimeWindow(NOON - HOUR, NOON)
TOKEN = "s3cr3t-token"
HOSTILE = "{{ 7*7 }} <script>alert(1)</script>"
_PUBLISH = """\
import os
from datetime import datetime
from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.stages.reports.publish_reports import publish_reports
control = postgres_engine(os.environ["CONTROL_DATABASE_URL"], "reports")
publish_reports(control, load_catalog(os.environ), os.environ, datetime.fromisoformat(os.environ["NOW"]))
"""


@dataclass
class Receiver:
    """A web server that keeps what it is sent.

    Args:
        status: that it answers with.
    """

    status: int = 200
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    port: int = 0

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{TOKEN}"

    @property
    def titles(self) -> list[str]:
        return [one["title"].split(":")[0] for one in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from _receiving()


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    yield from _receiving()


def _receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.status == 200:
                receiver.messages.append(message)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield receiver
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Desk:
    """A control database, and the system's role that makes reports."""

    url: str
    catalog: Catalog
    variables: dict[str, str]
    people: Engine
    system: Engine
    folder: Path

    def open(self, title: str = "odd prices", **changes: Any) -> str:
        values: dict[str, Any] = {"type": "data_loss", "title": title, "datasets": ("orders",), **changes}
        return by_hand.open_incident(self.people, self.catalog, by_hand.Report(**values), ANA, NOON).incident_id

    def lead(self, incident_id: str, *states: State, at: datetime = NOON + MINUTE) -> None:
        for target in states:
            with self.system.begin() as connection:
                seen = read_incident(connection, incident_id).state
                change_state(connection, incident_id, seen, target, RUN, f"on to {target}", at)

    def find(self, incident_id: str, kind: Any, finding: object) -> None:
        with self.system.begin() as connection:
            store_finding(connection, incident_id, kind, 1, finding, NOON)

    def publish(self, now: datetime, *urls: str, **variables: str) -> list[str]:
        return publish_reports(self.system, self.catalog, self.environment(*urls, **variables), now)

    def environment(self, *urls: str, **variables: str) -> dict[str, str]:
        return {
            "INCIDENT_PIPELINES_REPORTS": str(self.folder),
            "INCIDENT_PIPELINES_NOTIFY": " ".join(urls),
            **variables,
        }

    def reports(self, incident_id: str) -> dict[str, StoredReport]:
        with self.system.connect() as connection:
            return {one.name: one for one in reports_of(connection, incident_id)}

    def files(self, incident_id: str) -> list[str]:
        return sorted(path.name for path in (self.folder / incident_id).iterdir())


@pytest.fixture(scope="module")
def prepared(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, ...]]:
    catalog, variables = orders_catalog(Path(tmp_path_factory.mktemp("catalog")))
    prepare_control(databases.url("control"))
    url = databases.url("control", "publisher")
    people, system = postgres_engine(databases.url("control"), "people"), postgres_engine(url, "system")
    yield url, catalog, variables, people, system, databases.url("control")
    people.dispose()
    system.dispose()


@pytest.fixture
def desk(prepared: tuple[Any, ...], tmp_path: Path) -> Desk:
    """A desk without incidents of other tests: those are long over, and everything of them is sent."""
    url, catalog, variables, people, system, owner = prepared
    query(owner, "ALTER TABLE incidents.incidents DISABLE TRIGGER USER")
    query(owner, "UPDATE incidents.incidents SET resolved_at = '2020-01-01', state = 'reviewed'")
    query(owner, "ALTER TABLE incidents.incidents ENABLE TRIGGER USER")
    query(owner, "DELETE FROM incidents.reports")
    return Desk(url, catalog, variables, people, system, tmp_path / "reports")


def scope_of(incident_id: str) -> Scope:
    return Scope(
        incident_id=incident_id,
        revision=1,
        strategy="replay",
        as_of=NOON,
        suspects=(Suspect("orders", WINDOW, 100, 90),),
        first_lost=WINDOW.start,
        last_lost=WINDOW.end,
    )


def loss_of(incident_id: str, minute: int = 20, unrecoverable: int = 2) -> LossStatement:
    return LossStatement(
        incident_id=incident_id,
        as_of=NOON + minute * MINUTE,
        first_lost=WINDOW.start,
        last_lost=WINDOW.end,
        datasets=(
            DatasetLoss(
                dataset="orders",
                producer="shop team",
                declared=100,
                recovered=8,
                unrecoverable=unrecoverable,
                unknown_at_most=0,
            ),
        ),
        restated=(Restated(dataset="sales_daily", column="total", segment="EUR", before="1", after="2", rows=0),),
    )


def test_an_incident_is_told_from_beginning_to_end_each_thing_once(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open(HOSTILE)
    assert desk.publish(NOON, receiver.url) == [f"{incident_id}/01-detected made"]
    desk.lead(incident_id, "contained", "scoped")
    desk.find(incident_id, "scope", scope_of(incident_id))
    desk.publish(NOON + 5 * MINUTE, receiver.url)
    desk.publish(NOON + 35 * MINUTE, receiver.url)
    desk.lead(incident_id, "verifying", "recovered", at=NOON + 40 * MINUTE)
    desk.find(incident_id, "loss", loss_of(incident_id))
    for minute in (41, 42, 95):
        desk.publish(NOON + minute * MINUTE, receiver.url)
    made = desk.reports(incident_id)
    assert list(made) == [
        "01-detected",
        "02-scoped",
        "progress-1",
        "04-recovered",
        "loss-statement",
        "note-shop-team",
        "postmortem",
        "restatement-sales-daily",
    ]
    assert desk.files(incident_id) == sorted(f"{name}.md" for name in made)
    for name, one in made.items():
        assert Path(str(one.path)) == desk.folder / incident_id / f"{name}.md"
        assert Path(str(one.path)).read_text() == one.body
        assert (one.sent_at is not None, one.addresses, one.attempts, one.error) == (True, 1, 1, None)
    # The note went out with the scope, and again with the loss.
    assert len(receiver.messages) == len(made) + 1
    severity = next(iter(made.values())).severity
    assert receiver.titles[0] == f"[{incident_id} {severity}] detected"
    assert not any("<script>" in message["message"] or "49" in message["title"] for message in receiver.messages)
    desk.lead(incident_id, "resolved", at=NOON + 100 * MINUTE)
    assert desk.publish(NOON + 101 * MINUTE, receiver.url) == [f"{incident_id}/postmortem made"]
    assert desk.publish(NOON + timedelta(days=3), receiver.url) == []


def test_a_loss_that_is_stated_again_is_told_again_in_the_same_file(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open()
    desk.lead(incident_id, "contained", "scoped", "verifying", "recovered")
    desk.find(incident_id, "scope", scope_of(incident_id))
    desk.find(incident_id, "loss", loss_of(incident_id))
    desk.publish(NOON + 21 * MINUTE, receiver.url)
    desk.find(incident_id, "loss", loss_of(incident_id, minute=22, unrecoverable=0))
    told = desk.publish(NOON + 23 * MINUTE, receiver.url)
    assert f"{incident_id}/loss-statement made" in told
    assert (
        "nothing is lost: 8 events were brought back" in (desk.folder / incident_id / "loss-statement.md").read_text()
    )
    assert sum("loss statement" in title for title in receiver.titles) == 2


@pytest.mark.parametrize(
    ("failpoint", "files", "sent_again"),
    [("reports.intended", 0, 0), ("reports.written", 1, 0), ("reports.sent", 1, 1)],
)
def test_killed_anywhere_a_report_is_one_file_and_one_text(
    desk: Desk, receiver: Receiver, failpoint: str, files: int, sent_again: int
) -> None:
    incident_id = desk.open()
    variables = {
        **os.environ,
        **desk.variables,
        **desk.environment(receiver.url),
        "CONTROL_DATABASE_URL": desk.url,
        "NOW": NOON.isoformat(),
        ENVIRONMENT_VARIABLE: failpoint,
    }
    killed = subprocess.run([sys.executable, "-c", _PUBLISH], env=variables, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(desk.files(incident_id)) == files if files else not (desk.folder / incident_id).exists()
    intended = desk.reports(incident_id)["01-detected"]
    assert intended.sent_at is None
    desk.publish(NOON + MINUTE, receiver.url)
    desk.publish(NOON + 2 * MINUTE, receiver.url)
    after = desk.reports(incident_id)["01-detected"]
    assert (after.body, after.made_at) == (intended.body, NOON)
    assert desk.files(incident_id) == ["01-detected.md"]
    # What was taken when the process died cannot be known: it is sent once more, under the same title.
    assert receiver.titles == [receiver.titles[0]] * (1 + sent_again)
    assert after.sent_at is not None


def test_who_does_not_take_it_is_tried_again_and_nobody_else_is(
    desk: Desk, receiver: Receiver, other_receiver: Receiver
) -> None:
    incident_id = desk.open()
    receiver.status = 503
    urls = (receiver.url, other_receiver.url)
    told = desk.publish(NOON, *urls)
    failed = desk.reports(incident_id)["01-detected"]
    assert failed.sent_at is None
    assert failed.error is not None
    assert "address 1 of INCIDENT_PIPELINES_NOTIFY did not take it" in failed.error
    assert "503" in failed.error
    assert TOKEN not in f"{told}{failed.error}"
    assert (len(receiver.messages), len(other_receiver.messages)) == (0, 1)
    receiver.status = 200
    assert desk.publish(NOON + timedelta(seconds=5), *urls) == []  # not at once
    desk.publish(NOON + MINUTE, *urls)
    assert (len(receiver.messages), len(other_receiver.messages)) == (1, 1)
    assert desk.reports(incident_id)["01-detected"].sent_at == NOON + MINUTE


def test_it_gives_up_some_time_and_says_so(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open()
    receiver.status = 400
    desk.publish(NOON, receiver.url)
    with desk.people.begin() as connection:
        connection.execute(text("UPDATE incidents.reports SET attempts = :n"), {"n": MAX_ATTEMPTS - 1})
    told = desk.publish(NOON + 20 * MINUTE, receiver.url)
    assert any("not finished (for the last time)" in line for line in told)
    receiver.status = 200
    assert desk.publish(NOON + 25 * MINUTE, receiver.url) == []
    assert desk.reports(incident_id)["01-detected"].sent_at is None


def test_a_severity_has_addresses_of_its_own_and_nobody_is_told_twice(desk: Desk, receiver: Receiver) -> None:
    desk.open(severity="P0")
    own = {"INCIDENT_PIPELINES_NOTIFY_P0": receiver.url}
    desk.publish(NOON, receiver.url, **own)
    assert len(receiver.messages) == 1
    desk.open(severity="P1")
    desk.publish(NOON, **own)
    assert len(receiver.messages) == 1


def test_without_addresses_files_are_written_and_that_is_all(desk: Desk) -> None:
    incident_id = desk.open()
    assert desk.publish(NOON) == [f"{incident_id}/01-detected made"]
    assert desk.reports(incident_id)["01-detected"].addresses == 0
    assert desk.files(incident_id) == ["01-detected.md"]


def test_what_cannot_be_written_is_sent_all_the_same_and_written_later(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open()
    blocked = desk.folder.parent / "blocked"
    blocked.write_text("a file where the folder should be")
    told = desk.publish(NOON, receiver.url, INCIDENT_PIPELINES_REPORTS=str(blocked))
    assert "cannot be written" in told[-1]
    assert len(receiver.messages) == 1
    desk.publish(NOON + MINUTE, receiver.url)
    assert desk.files(incident_id) == ["01-detected.md"]
    assert len(receiver.messages) == 1


def test_templates_that_cannot_be_read_do_not_keep_a_page(desk: Desk, receiver: Receiver, tmp_path: Path) -> None:
    desk.open()
    told = desk.publish(NOON, receiver.url, INCIDENT_PIPELINES_REPORT_TEMPLATES=str(tmp_path / "nowhere"))
    assert "is no folder" in told[0]
    assert len(receiver.messages) == 1


def test_progress_comes_every_30_minutes_and_what_was_missed_does_not(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open()
    for minute in (0, 29, 30, 31, 59, 60, 200):
        desk.publish(NOON + minute * MINUTE, receiver.url)
    assert [name for name in desk.reports(incident_id) if name.startswith("progress")] == [
        "progress-1",
        "progress-2",
        "progress-6",
    ]


def test_an_escalation_is_one_alert(desk: Desk, receiver: Receiver) -> None:
    incident_id = desk.open()
    desk.lead(incident_id, "escalated")
    for minute in (1, 2, 3):
        desk.publish(NOON + minute * MINUTE, receiver.url)
    alerts = [one for one in receiver.messages if "ESCALATED" in one["title"]]
    assert [one["type"] for one in alerts] == ["failure"]
    assert f"incident-pipelines incident resume {incident_id}" in alerts[0]["message"]


def test_any_report_can_be_looked_at_without_being_made(desk: Desk) -> None:
    incident_id = desk.open()
    shown = live_report(desk.system, desk.catalog, {}, incident_id, "detected", NOON)
    assert "odd prices" in shown.body
    with pytest.raises(IncidentPipelinesError, match="has no report 'loss' yet; it has status, 01-detected"):
        live_report(desk.system, desk.catalog, {}, incident_id, "loss", NOON)
    assert desk.reports(incident_id) == {}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 100])
def test_a_file_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(IncidentPipelinesError, match="is no name of a report's file"):
        write_report(tmp_path, "INC-1", name, "x")


def test_an_address_shows_up_nowhere(receiver: Receiver) -> None:
    written = StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        urls = f"{receiver.url} nonsense://{TOKEN} json://ana:{TOKEN}@127.0.0.1:9/"
        addresses = addresses_for({"INCIDENT_PIPELINES_NOTIFY": urls}, "P0")
        assert send(addresses[0], "t", "b", "info") is None
        receiver.status = 500
        told = [send(one, "t", "b", "info") for one in addresses]
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert all(told)
    assert "is no address that Apprise knows" in str(told[1])
    assert TOKEN not in f"{told}{addresses}{written.getvalue()}"
