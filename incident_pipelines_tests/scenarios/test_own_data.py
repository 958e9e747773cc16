"""docs/own-data.md, as it is typed: a team's databases and topic, from an empty folder to a window that is back."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from sqlalchemy import create_engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stack.postgres import programs
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.backfill import publish_range
from incident_pipelines.stages.extract import extract_changes
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.publish import PublishedWindow
from incident_pipelines.stages.reconcile import reconcile
from incident_pipelines.stages.refresh import refresh, stale_windows
from incident_pipelines.stages.source_urls import source_url
from incident_pipelines.stages.window_watch import WindowWatch
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.shop import shop_definitions
from incident_pipelines_tests.landing_tools import lander, query, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

GUIDE = Path(__file__).parents[2] / "docs" / "own-data.md"
PORT = "15432"  # of the guide's PostgreSQL


class Team:
    """Somebody who follows the guide: a shell, with servers of the test's in place of the guide's."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self._port = str(stack.postgres.port)
        blocks = re.findall(
            r"^```(bash|python)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
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
