"""The command line of topics: what it refuses, what it records, and the guard that can be told to be quiet."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines_tests.commands import in_process
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.watched_topics import DAY_MS, WatchedTopic, watched_topic

pytestmark = pytest.mark.stack


@dataclass
class Terminal:
    """A terminal that nobody sits at."""

    watched: WatchedTopic

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run `incident-pipelines topics …` in this process and return exit code, output, errors."""
        return in_process.run(self.watched.variables, "topics", *arguments)

    def parsed(self, *arguments: str) -> Any:
        """Run a command that prints JSON."""
        code, output, errors = self.run(*arguments, "--json")
        assert code == 0, errors
        return json.loads(output)

    def changes(self) -> list[tuple[Any, ...]]:
        return query(
            self.watched.variables["CONTROL_DATABASE_URL"],
            "SELECT topic, retention_before_ms, retention_after_ms, acknowledged_for, by, done_at IS NOT NULL, failure "
            "FROM monitoring.topic_changes ORDER BY change_id",
        )


@pytest.fixture
def terminal(databases: Databases, tmp_path: Path, new_topic: Callable[..., str]) -> Iterator[Terminal]:
    for watched in watched_topic(databases, tmp_path, new_topic("orders", retention_ms=14 * DAY_MS)):
        yield Terminal(watched)


AGREED = ("--acknowledge", "finance", "--acknowledge", "growth")


def test_the_list_says_what_is_kept_and_what_has_to_be(terminal: Terminal) -> None:
    topic = terminal.watched.topic
    terminal.watched.send(4, timedelta(hours=2))
    terminal.watched.landed(1)
    terminal.watched.commit(f"billing-{topic}", 0)
    (row,) = terminal.parsed("list")
    assert row.pop("lag_seconds") >= 7_200
    assert row == {
        "topic": topic,
        "contract": "orders",
        "owner": "shop team",
        "consumers": ["finance", "growth"],
        "groups": [f"billing-{topic}"],
        "retention_ms": 14 * DAY_MS,
        "retention_overridden": True,
        "retention_bytes": -1,
        "cleanup_policy": "delete",
        "floor_ms": 7 * DAY_MS,
        "floor_reason": "the contract",
        "lag": 3,
        "verdict": "ok",
        "notes": [],
    }
    terminal.watched.broker.set_retention(topic, 3_600_000)
    code, output, _ = terminal.run("list")
    assert code == 1
    assert "below floor" in output
    assert "7d: the contract" in output


def test_a_retention_is_changed_with_the_agreement_of_all_and_recorded(terminal: Terminal) -> None:
    topic = terminal.watched.topic
    for arguments, said in (
        (("--retention", "6d", *AGREED), "has to keep its records for 7d (the contract): 6d is below that"),
        (("--retention", "8d"), "finance, growth has to agree to another retention"),
        (("--retention", "8d", *AGREED[:2]), "growth has to agree to another retention"),
        (("--retention", "8d", *AGREED, "--acknowledge", "me"), "me is no consumer of"),
        (("--retention", "soon", *AGREED), "--retention 'soon' is no duration"),
        (("--retention", "99999999999999d", *AGREED), "is no duration"),
    ):
        code, _, errors = terminal.run("apply", topic, *arguments)
        assert code == 2
        assert said in errors
    code, _, errors = terminal.run("apply", "nothing", "--retention", "8d")
    assert (code, f"one of {topic}" in errors) == (2, True)
    assert terminal.watched.settings().retention_ms == 14 * DAY_MS
    assert terminal.changes() == []
    code, output, errors = terminal.run("apply", topic, "--retention", "8d", *AGREED, "--as", "Ada")
    assert code == 0, errors
    assert "keeps its records for 14d; asked for: 8d. Its consumers: finance, growth" in errors
    assert f"{topic} now keeps its records for 8d" in output
    assert terminal.watched.settings().retention_ms == 8 * DAY_MS
    ((*change, by, done, failure),) = terminal.changes()
    assert change == [topic, 14 * DAY_MS, 8 * DAY_MS, ["finance", "growth"]]
    assert by.startswith("Ada (")
    assert (done, failure) == (True, None)
    assert terminal.parsed("apply", topic, "--retention", "8d", *AGREED)["change"] is None
    assert len(terminal.changes()) == 1


def test_the_guard_is_quiet_for_a_while_with_a_reason(terminal: Terminal) -> None:
    assert terminal.run("guard")[:2] == (0, "retention: watching\nlanding: watching\n")
    for arguments, said in (
        (("--suspend", "30m"), "--suspend needs --because TEXT"),
        (("--suspend", "25h", "--because", "x"), "24h at most"),
        (("--suspend", "30m", "--because", "x", "--resume"), "exclude each other"),
        (("--watch", "all"), "--watch 'all' is not known; one of retention, landing"),
    ):
        code, _, errors = terminal.run("guard", *arguments)
        assert (code, said in errors) == (2, True)
    code, output, _ = terminal.run("guard", "--suspend", "30m", "--because", "a drill", "--as", "Ada")
    assert code == 0
    assert output.startswith("retention: suspended until ")
    assert output.splitlines()[0].endswith(": a drill")
    assert output.splitlines()[1] == "landing: watching"
    state = terminal.parsed("guard", "--watch", "retention")["retention"]
    assert state["suspended"]
    assert timedelta(minutes=29) < datetime.fromisoformat(state["until"]) - datetime.now(UTC) < timedelta(minutes=31)
    assert terminal.parsed("guard", "--suspend", "1h", "--because", "x", "--watch", "landing")["landing"]["suspended"]
    assert terminal.parsed("guard", "--resume") == {
        "retention": {"suspended": False},
        "landing": terminal.parsed("guard")["landing"],
    }
