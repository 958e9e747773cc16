"""docs/own-data.md, as it is typed: a team's databases and topic, from an empty folder to a window that is back.

The drill types all of it, with stacks of its own; the other test as far as the catalog, and goes on in-process.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from sqlalchemy import create_engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stack.postgres import programs
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.monitoring.window_watch import WindowWatch
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publication.backfill import publish_range
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines.stages.reconciliation.reconcile import reconcile
from incident_pipelines.stages.source_urls import source_url
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.shop import shop_definitions
from incident_pipelines_tests.landing_tools import lander, query, wait_for

pytestmark = pytest.mark.stack

GUIDE = Path(__file__).parents[2] / "docs" / "own-data.md"
PORT, KAFKA_PORT = "15432", "19092"  # of the guide's servers
Block = tuple[str, str]


def blocks_of_guide() -> list[Block]:
    """(language, text) of each of the guide's blocks of code, in order."""
    return re.findall(r"^```(bash|python|sql)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


class Team:
    """Somebody who follows the guide: a shell, with servers of the test's in place of the guide's."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self._port = str(stack.postgres.port)
        blocks = blocks_of_guide()
        (folder / "events.py").write_text(next(body for kind, body in blocks if kind == "python"))
        self._blocks = [body.replace(PORT, self._port) for kind, body in blocks if kind == "bash"]
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{programs()}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": self._port,
            "PGUSER": "postgres",
            "PGTZ": "UTC",
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        }

    def types(self, first: str, last: str) -> None:
        """Type the guide's commands from the block with one text to the block with another."""
        numbers = [next(n for n, body in enumerate(self._blocks) if text in body) for text in (first, last)]
        typed = "set -euo pipefail\n" + "".join(self._blocks[numbers[0] : numbers[1] + 1])
        done = subprocess.run(
            ("bash", "-c", typed), cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def addresses(self) -> dict[str, str]:
        """What the guide's .env sets."""
        shown = subprocess.run(
            ("bash", "-c", ". bank-platform/.env && env"), cwd=self.folder, env=self._environment,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        wanted = ("INCIDENT_PIPELINES_CATALOG", "INCIDENT_PIPELINES_SQL", "BANK_DATABASE_URL", "LEDGER_DATABASE_URL")
        return {
            name: value for name, _, value in (line.partition("=") for line in shown.splitlines()) if name in wanted
        }


@pytest.fixture
def team(stack: Stack, tmp_path: Path) -> Iterator[Team]:
    yield Team(stack, tmp_path)
    with stack.postgres.connect() as connection:
        for name in ("bank", "ledger"):
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute("DROP ROLE IF EXISTS reader")
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    if "transfers" in admin.list_topics(timeout=10).topics:
        admin.delete_topics(["transfers"])["transfers"].result(timeout=10)


@pytest.mark.timeout(120)
def test_the_guide_leads_from_an_empty_folder_to_a_recovered_window(
    team: Team, own_databases: Databases, tmp_path: Path
) -> None:
    team.types("CREATE DATABASE bank", "reconciliations/bank_ledger.yaml")
    own = team.addresses()
    owner = own_databases.environment("owner") | own
    del owner["INCIDENT_PIPELINES_START"]  # the catalog's own start counts
    catalog = prepare(owner)
    keys = {key.to_user_string() for key in shop_definitions(catalog).resolve_asset_graph().get_all_asset_keys()}
    assert {"bank/pgbench_history", "ledger/bookings", "raw/transfers", "marts/daily_transfers"} <= keys
    assert not [key for key in keys if "registrations" in key or key.startswith(("app/", "billing/"))]

    warehouse = postgres_engine(own_databases.url("warehouse", "publisher"), "test")
    at = own_databases.url("warehouse")
    with lander(owner, tmp_path / "lander.log", group=f"own-{own_databases.names['warehouse']}"):
        wait_for(lambda: query(at, "SELECT count(*) FROM landing.transfers")[0][0] == 1000, "1000 events land")
    for contract in catalog.landed.values():
        if isinstance(contract, RowsContract):
            assert isinstance(contract.origin, TableSource)
            source = create_engine(source_url(catalog, own, contract.origin.source))
            assert extract_changes(source, warehouse, catalog, contract, now=datetime.now(UTC)).appended == 1000
            source.dispose()
    while stale_windows(warehouse, catalog):
        for outcome in refresh(warehouse, catalog, owner="test"):
            assert isinstance(outcome, PublishedWindow), outcome
    figures = "SELECT sum(transfers), sum(booked) FROM marts.daily_transfers"
    assert query(at, figures) == [(1000, 1000)]

    control = postgres_engine(own_databases.url("control", "publisher"), "test")
    with psycopg.connect(own["LEDGER_DATABASE_URL"].replace("+psycopg", "").replace("reader@", "postgres@")) as ledger:
        ledger.execute("DELETE FROM bookings WHERE history_id <= 3")
    later = datetime.now(UTC) + timedelta(minutes=5)
    found = reconcile(catalog, control, "bank_ledger", None, as_of=later, owner="test", environment=owner)
    assert found.opened == 3
    control.dispose()

    hour = TimeWindow.hour_of(query(at, "SELECT min(created_at) FROM raw.transfers")[0][0])
    content = "SELECT * FROM raw.transfers ORDER BY event_id"
    before = query(at, content)
    watch = WindowWatch(catalog, own_databases.environment("monitor"))
    watch.compare()
    lost = "created_at >= %s AND transfer_id IN (SELECT transfer_id FROM raw.transfers ORDER BY created_at LIMIT 20)"
    with psycopg.connect(at.replace("+psycopg", "")) as somebody:
        assert somebody.execute(f"DELETE FROM raw.transfers WHERE {lost}".encode(), [hour.start]).rowcount == 20
    assert watch.compare().raised == 1
    signals = "SELECT dataset, window_start FROM monitoring.signals WHERE kind = 'window_changed_outside'"
    assert query(own_databases.url("control"), signals) == [("transfers", hour.start)]

    outcomes = list(publish_range(warehouse, catalog, "transfers", [hour], root_run_id="backfill", owner="test"))
    assert [type(outcome) for outcome in outcomes] == [PublishedWindow]
    assert watch.compare().cleared == 1
    watch.close()
    after = query(at, content)
    assert [row[:6] for row in after] == [row[:6] for row in before]
    warehouse.dispose()


PROLOGUE = """\
# Nobody sits here who would see what went wrong: whatever fails ends it, but for what the guide says may answer 1.
trap 'code=$?; case "$BASH_COMMAND" in
  "incident-pipelines reconcile run"*) [ $code = 1 ] || exit $code ;;
  *) echo "exit $code: $BASH_COMMAND" >&2; exit $code ;;
esac' ERR
until_true() {
  for _ in $(seq 300); do if eval "$1"; then return 0; fi; sleep 2; done
  echo "not in ten minutes: $1" >&2; return 1
}
state_of() {
  incident-pipelines incident show "$1" --json | python -c 'import json, sys; print(json.load(sys.stdin)["state"])'
}
"""
WAITS = (
    """[ "$(psql -AtX bank -c "SELECT max(mtime) < now() - interval '61 s' FROM pgbench_history")" = t ]""",
    """[ "$(state_of INC-2 2> /dev/null)" = awaiting_approval ]""",
    """[ "$(state_of INC-2)" = recovered ]""",
)
"""What each `sleep` of the guide waits for, in order."""


def typed(blocks: list[Block], ports: Mapping[str, str]) -> str:
    """All of the guide as one script; before each block it prints a line with its number."""
    waits = iter(WAITS)
    parts = [PROLOGUE]
    for number, (kind, body) in enumerate(blocks):
        parts.append(f'echo "=== {number}"\n')
        match kind:
            case "python":
                parts.append(f"cat > events.py <<'END_OF_FILE'\n{body}END_OF_FILE\n")
            case "sql":
                parts.append(f"psql -v ON_ERROR_STOP=1 bank <<'END_OF_SQL'\n{body}END_OF_SQL\n")
            case _:
                parts.append(re.sub(r"^sleep \d+.*$", lambda _: f"until_true {quote(next(waits))}", body, flags=re.M))
    assert next(waits, None) is None, "the guide waits less often than this drill knows"
    text = "".join(parts)
    for usual, port in ports.items():
        text = text.replace(usual, port)
    return text


def port_for(usual: str) -> str:
    """The guide's port, or another one where somebody listens there."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", int(usual)))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Path]:
    """Somebody's folder with nothing in it but an installation; stacks that were started in it are stopped."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    yield tmp_path
    for home in (tmp_path / "own-data" / "bank-platform" / ".local", tmp_path / "own-data" / "servers" / ".local"):
        if home.is_dir():
            environment = {**os.environ, "INCIDENT_PIPELINES_HOME": str(home)}
            subprocess.run((f"{sys.prefix}/bin/incident-pipelines", "down"), env=environment, check=False, timeout=300)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_the_guide_can_be_typed_from_its_first_line_to_its_last(reader: Path) -> None:
    blocks = blocks_of_guide()
    script = typed(blocks, {usual: port_for(usual) for usual in (PORT, KAFKA_PORT)})
    taken = re.compile(r"PG[A-Z]+$|.*_URL$|KAFKA_|INCIDENT_PIPELINES_|DAGSTER_")
    clean = {name: value for name, value in os.environ.items() if not taken.match(name)}
    done = subprocess.run(
        ("bash", "-c", script), cwd=reader, env=clean, capture_output=True, text=True, check=False, timeout=3000
    )
    told = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    printed = dict(zip(*[iter(re.split(r"^=== (\d+)\n", done.stdout, flags=re.M)[1:])] * 2, strict=True))

    def output(*parts: str) -> str:
        (number,) = [n for n, (_, body) in enumerate(blocks) if all(part in body for part in parts)]
        return printed[str(number)]

    def numbers(text: str) -> list[list[int]]:
        """Of the rows of psql's tables, what stands in their columns after the first one."""
        rows = [line.split("|") for line in text.splitlines() if re.match(r"\s*[\d-]+\s*\|", line)]
        return [[int(cell) for cell in row if re.fullmatch(r"\s*\d+\s*", cell)] for row in rows]

    days = numbers(output("landing status", "marts.daily_transfers"))
    assert [sum(column) for column in list(zip(*days, strict=True))[:2]] == [1000, 1000], told
    assert "opened 100," in output("differences bank_ledger --open"), told
    assert "resolved 100;" in output("history_id > 1000"), told
    assert re.search(r"INC-2\b.*transfers", output("incident list"), re.DOTALL), told
    assert "approved by" in output("incident approve INC-2"), told
    after = output("count(DISTINCT event_id)", "--kind loss")
    assert numbers(after) == [[1100, 1100]], told
    assert "INC-2" in after, told
    assert "recovered" in after, told
    assert "transfers" in output("recoverability --days 1"), told
