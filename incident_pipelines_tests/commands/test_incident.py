"""The command line of incidents: what it prints, how it exits, and that it fits a terminal."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.adapters.stores.incidents_findings import store_finding
from incident_pipelines.adapters.stores.incidents_work import store_plan
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.scope import Affected
from incident_pipelines.core.recovery.loss import DatasetLoss, LossStatement
from incident_pipelines.core.recovery.plan import Choice, RecoveryPlan, Replay
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents.by_hand import Report, open_incident
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.prepare import prepare_control
from incident_pipelines.stages.reports.publish_reports import publish_reports
from incident_pipelines_tests.commands import in_process
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RUN = Actor("run", "r-1")
WINDOW = TimeWindow(datetime(2026, 3, 1, 9, tzinfo=UTC), datetime(2026, 3, 1, 10, tzinfo=UTC))
PLAN = RecoveryPlan(
    incident_id="INC-1",
    revision=1,
    attempt=1,
    replays=(Replay("payments", WINDOW, 7, (Choice("audit_log", True, 7, True, False, True, None, "has all of it"),)),),
    publishes=(Affected("payments", WINDOW, "events are replayed into it"),),
)
NOT_PRINTED = "\x1b[31m[red]|"


@dataclass
class Terminal:
    """A terminal of 100 columns at the catalog that ships."""

    url: str
    control: Engine
    folder: Path

    def run(self, *arguments: str, columns: int = 100, **variables: str) -> tuple[int, str, str]:
        """Run `incident-pipelines incident …` in this process and return exit code, output, errors."""
        own = {"CONTROL_DATABASE_URL": self.url, "COLUMNS": str(columns), "INCIDENT_PIPELINES_HOME": str(self.folder)}
        return in_process.run({**own, **variables}, "incident", *arguments)

    def parsed(self, *arguments: str, code: int = 0) -> Any:
        """Run a command that prints JSON."""
        found, output, errors = self.run(*arguments, "--json")
        assert found == code, errors
        return json.loads(output)

    def raise_signal(self, kind: str, dataset: str, hour: datetime | None, **detail: Any) -> None:
        query(
            self.url,
            "INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, occurred_at)"
            " VALUES (%s, 'critical', %s, %s, %s, %s, now() - interval '90 seconds')",
            kind,
            dataset,
            hour,
            hour and hour + timedelta(hours=1),
            json.dumps({"summary": f"{kind} in {dataset} {NOT_PRINTED}", **detail}),
        )

    def take(self) -> None:
        take_signals(self.control, load_catalog({}), datetime.now(UTC))

    def lead(self, incident_id: str, *states: Any) -> None:
        for target in states:
            with self.control.begin() as connection:
                ((state,),) = query(
                    self.url, "SELECT state FROM incidents.incidents WHERE incident_id = %s", incident_id
                )
                change_state(connection, incident_id, state, target, RUN, "on", datetime.now(UTC))


@pytest.fixture
def terminal(own_databases: Databases, tmp_path: Path) -> Iterator[Terminal]:
    yield from prepared(own_databases, tmp_path)


@pytest.fixture(scope="module")
def quiet_terminal(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One without incidents, for what changes nothing."""
    yield from prepared(databases, tmp_path_factory.mktemp("home"))


def prepared(databases: Databases, folder: Path) -> Iterator[Terminal]:
    url = databases.url("control")
    prepare_control(url)
    control = postgres_engine(url, "test")
    yield Terminal(url, control, folder)
    control.dispose()


def test_one_is_opened_listed_and_shown(terminal: Terminal) -> None:
    code, output, _ = terminal.run("list")
    assert (code, output.strip()) == (0, "no open incidents; mode act")
    opened = terminal.parsed(
        *("open", "--type", "corruption", "--title", "[red]prices times 100", "--dataset", "payments", "--as", "ana"),
        *("--since", "3h", "--window", "2026-11-01T13/2026-11-01T15", "--severity", "P1"),
    )
    assert (opened["incident_id"], opened["severity"], opened["state"]) == ("INC-1", "P1", "detected")
    began = datetime.fromisoformat(opened["detected_at"]) - datetime.fromisoformat(opened["began_at"])
    assert began == timedelta(hours=3)
    (listed,) = terminal.parsed("list")
    assert listed == opened
    code, output, _ = terminal.run("list", INCIDENT_PIPELINES_MODE="observe")
    assert "[red]prices times 100" in output
    assert "mode observe; MTTD 3 h" in output
    code, output, _ = terminal.run("show", "1")
    assert code == 0
    for told in (
        "INC-1  P1  detected  [red]prices times 100",
        "commander: none yet; mode act",
        "payments: owner billing team; consumers analytics, finance",
        "revenue (downstream): owner finance",
        "2026-11-01 13:00 to 15:00 UTC",
        "3 h ago",
        "yes, as far as is known: not contained",
        "not known yet: none of its signals names money",
        "docs/incidents.md",
        "ana (account ",
        "1 entries, chain whole",
    ):
        assert told in output, told


def test_what_the_sensor_opened_answers_the_five_questions_in_100_columns(terminal: Terminal) -> None:
    hour = datetime(2026, 11, 1, 13, tzinfo=UTC)
    for partition in range(12):
        terminal.raise_signal(
            "offsets_aged_out", "payments", None, topic="payments", partition=partition, records_at_most=1000
        )
    terminal.raise_signal("window_refused", "registrations", hour, failed_rules=[{"rule": "amount_is_positive"}])
    terminal.raise_signal("reconciliation_gap", "app_warehouse", hour, missing=4, money_at_stake={"EUR": "99.90"})
    terminal.take()
    shown = terminal.parsed("show", "INC-1")
    assert set(shown["triage"]) == {"what_data", "who_is_affected", "since_when", "still_going_on", "what_it_costs"}
    assert shown["triage"]["what_data"][0].startswith("payments: at most 12,000 records of 12 partitions aged out")
    assert shown["runbooks"] == ["docs/runbooks/offsets_aged_out.md"]
    assert {one["dataset"] for one in shown["affected"] if one["downstream"]} >= {"revenue"}
    assert shown["timeline_whole"]
    assert len(shown["timeline"]) == 13
    second = terminal.parsed("show", "INC-2")
    assert second["triage"]["what_it_costs"] == ["99.90 EUR at stake by app_warehouse"]
    for incident_id in ("INC-1", "INC-2"):
        _, output, _ = terminal.run("show", incident_id)
        assert max(len(line.rstrip()) for line in output.splitlines()) <= 100
        assert "\x1b" not in output
        assert "\\x1b[31m[red]|" in output
        assert "`incident-pipelines incident ack" in output
    _, output, _ = terminal.run("show", "INC-1")
    assert "12 signals joined until" in output
    assert output.count("offsets_aged_out in payments ×12") == 1


def test_a_person_acts_at_any_time_and_it_is_told_who(terminal: Terminal) -> None:
    terminal.raise_signal("offsets_aged_out", "payments", None)
    terminal.take()
    acknowledged = terminal.parsed("ack", "inc-1", "--as", "ana")
    assert acknowledged["commander"] == "ana"
    terminal.run("note", "1", "asked billing", "--as", "bob")
    stopped = terminal.parsed("stop", "1")
    assert (stopped["state"], stopped["stopped_because"]) == ("detected", "no reason given")
    _, output, _ = terminal.run("list")
    assert "STOPPED" in output
    assert terminal.parsed("resume", "1")["stopped_at"] is None
    (item,) = terminal.parsed("action", "1", "--add", "alert on retention", "--owner", "ana", "--due", "2026-12-01")
    assert (item["owner"], item["due"], item["done_at"]) == ("ana", "2026-12-01", None)
    (item,) = terminal.parsed("action", "1", "--done", "1", "--as", "ana")
    assert item["done_at"]
    assert terminal.parsed("resolve", "1", "--because", "handled")["resolution"] == "by_hand"
    assert terminal.parsed("list") == []
    assert terminal.parsed("review", "1", "--note", "blameless")["state"] == "reviewed"
    (kept,) = terminal.parsed("list", "--all")
    assert kept["state"] == "reviewed"
    kinds = [entry["kind"] for entry in terminal.parsed("show", "1")["timeline"]]
    assert kinds == [
        *("opened", "signal_joined", "acknowledged", "noted", "stopped", "resumed"),
        *("action_item_added", "action_item_done", "state_changed", "state_changed"),
    ]
    code, output, _ = terminal.run("report", "1")
    assert code == 0
    assert output.startswith("# INC-1 · P0 · Events aged out of the topic before they were landed\n")
    assert "asked billing" in output
    assert "hash of the last one: `" in output


def test_without_a_plan_that_is_what_is_said_and_one_that_is_there_is_approved(terminal: Terminal) -> None:
    terminal.raise_signal("offsets_aged_out", "payments", None)
    terminal.take()
    code, output, _ = terminal.run("plan", "1")
    assert code == 1
    assert output.startswith("INC-1 has no plan yet; it is detected.\nnext: containment, before anything is")
    assert terminal.parsed("plan", "1", code=1)["plan"] is None
    code, _, errors = terminal.run("approve", "1")
    assert (code, errors) == (2, "error: INC-1 has no plan yet; it is detected\n")
    terminal.lead("INC-1", "contained", "scoped")
    with terminal.control.begin() as connection:
        store_plan(connection, "INC-1", "abc" * 20, 1, PLAN.body(), RUN, datetime.now(UTC))
    terminal.lead("INC-1", "planned", "awaiting_approval")
    assert terminal.parsed("plan", "1")["plan"]["body"] == json.loads(json.dumps(PLAN.body()))
    _, output, _ = terminal.run("plan", "1")
    assert "not approved; INC-1 is awaiting approval" in output
    assert "7 missing events" in output
    assert "→ audit_log: has all of it" in output
    assert terminal.run("approve", "1", "--plan", "fff")[0] == 2
    assert terminal.parsed("approve", "1", "--plan", "abcabc", "--as", "ana")["state"] == "planned"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "INC-99"), "no incident 'INC-99'; `incident-pipelines incident list --all` shows them"),
        (("show", "seven"), "'seven' is not the id of an incident; write it like INC-7"),
        (("show", "INC-" + "9" * 4000), "no incident 'INC-999999999999999999'"),
        (("note", "INC-99", "x"), "no incident 'INC-99'"),
        (("open", "--type", "x", "--title", "y"), "--type 'x' is not known; one of data_loss, corruption"),
        (("open", "--type", "breach", "--title", " "), "a title is needed"),
        (("open", "--type", "breach", "--title", "y", "--dataset", "n"), "dataset 'n' is not in the catalog; one of"),
        (("open", "--type", "breach", "--title", "y", "--severity", "P9"), "--severity 'P9' is not known; one of P0"),
        (("open", "--type", "breach", "--title", "y", "--since", "soon"), "'soon' is no time; write it like"),
        (("open", "--type", "breach", "--title", "y", "--since", "9" * 20 + "d"), "is no time; write it like"),
        (("open", "--type", "breach", "--title", "y", "--since", "2999-01-01"), "which is in the future"),
        (("open", "--type", "breach", "--title", "y", "--window", "2026-11-01T13"), "is no window (it has no end)"),
        (("action", "INC-1", "--owner", "ana"), "--owner and --due belong to --add TEXT"),
        (("action", "INC-1", "--add", "x", "--owner", "a", "--due", "soon"), "--due 'soon' is no date"),
        (("ack", "INC-99", "--as", " "), "--as needs a name"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(quiet_terminal: Terminal, arguments: tuple[str, ...], message: str) -> None:
    code, output, errors = quiet_terminal.run(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_timeline_that_was_tampered_with_is_shown_as_such(terminal: Terminal) -> None:
    terminal.run("open", "--type", "breach", "--title", "a key leaked")
    with psycopg.connect(driver_url(terminal.url)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE incidents.timeline SET text = 'nothing leaked'")
    code, output, _ = terminal.run("show", "1")
    assert code == 1
    assert "THE TIMELINE WAS TAMPERED WITH: entry 1 was changed" in output
    assert terminal.parsed("show", "1", code=1)["tampered"] == [{"entry": 1, "what": "entry 1 was changed"}]


def test_a_database_that_is_not_there_or_not_prepared_is_one_line(
    quiet_terminal: Terminal, databases: Databases
) -> None:
    for url, message in (
        ("postgresql://nobody@127.0.0.1:1/none", "error: control database cannot be reached"),
        (databases.url("app"), 'error: the control database refuses: relation "incidents.incidents" does not exist'),
        (databases.url("control", "monitor"), "error: the control database refuses: permission denied for schema"),
    ):
        code, _, errors = quiet_terminal.run("list", CONTROL_DATABASE_URL=url)
        assert code == 2
        assert errors.startswith(message)
        assert errors.count("\n") == 1


def test_reports_are_shown_with_where_they_are_and_any_can_be_printed(terminal: Terminal) -> None:
    catalog, ana = load_catalog({}), Actor("person", "ana")
    lost = Report("data_loss", f"lost {NOT_PRINTED}", ("payments",))
    open_incident(terminal.control, catalog, lost, ana, datetime.now(UTC))
    variables = {"INCIDENT_PIPELINES_HOME": str(terminal.folder), "INCIDENT_PIPELINES_NOTIFY": "nonsense://x"}
    publish_reports(terminal.control, catalog, variables, datetime.now(UTC))
    loss = DatasetLoss(
        dataset="payments", producer="billing", declared=9, recovered=7, unrecoverable=2, unknown_at_most=0
    )
    stated = LossStatement(
        incident_id="INC-1", as_of=datetime.now(UTC), first_lost=None, last_lost=None, datasets=(loss,)
    )
    with terminal.control.begin() as connection:
        store_finding(connection, "INC-1", "loss", 1, stated, datetime.now(UTC))
    _, output, _ = terminal.run("show", "1")
    told = " ".join(output.split())
    assert "2 of 9 events in the window are gone for good, all of them payments" in told
    assert "01-detected NOT SENT after 1 attempts: address 1 of INCIDENT_PIPELINES_NOTIFY is no address" in told
    assert all(len(line) <= 100 for line in output.splitlines())
    shown = terminal.parsed("show", "1")
    assert shown["reports"][0]["path"] == str(terminal.folder / "reports" / "INC-1" / "01-detected.md")
    assert shown["loss"]["headline"].startswith("2 of 9 events")
    code, output, _ = terminal.run("report", "INC-1", "--kind", "detected")
    assert (code, output.splitlines()[0]) == (0, "# INC-1 · P2 · detected: lost \\\\x1b\\[31m\\[red\\]&#124;")
    code, _, errors = terminal.run("report", "INC-1", "--kind", "postmortem")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "INC-1 is detected and has no report 'postmortem' yet; it has status, 01-detected" in errors
