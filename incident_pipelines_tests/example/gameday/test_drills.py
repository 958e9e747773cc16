"""Every game day on a whole stack of its own: minutes each, run by `make drills`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from incident_pipelines.core.incidents.incident import State
from incident_pipelines.example.gameday.catalogue import SCENARIOS
from incident_pipelines.stack.locations import HOME_VARIABLE
from incident_pipelines_tests.example.gameday.kills import OVER, RUN, Seen, Watched
from incident_pipelines_tests.landing_tools import wait_for

SEED = int(os.environ.get("GAMEDAY_SEED", "1"))
RUNNING_HOME = os.environ.get("GAMEDAY_HOME")
"""Home of a stack that runs already and has nothing else to do; if absent, one is made and stopped again."""

COMMAND = (sys.executable, "-m", "incident_pipelines.cli")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if RUNNING_HOME is not None:
        yield Path(RUNNING_HOME)
        return
    folder = tmp_path_factory.mktemp("gameday")
    subprocess.run((*COMMAND, "up", "--detach"), env=environment_of(folder), check=True, timeout=900)
    try:
        yield folder
    finally:
        subprocess.run((*COMMAND, "down"), env=environment_of(folder), check=True, timeout=300)


@pytest.mark.drill
@pytest.mark.stack
@pytest.mark.parametrize("name", ["accidental-delete", *sorted(set(SCENARIOS) - {"accidental-delete"})])
def test_the_system_closes_it_by_itself(home: Path, name: str) -> None:
    ran = command(home, "gameday", "run", name, "--seed", str(SEED), "--json")
    assert ran.returncode == 0, f"seed {SEED}: {ran.stdout}\n{ran.stderr}"
    figures = json.loads(ran.stdout)
    assert figures["passed"]
    assert (figures["differences_left"], figures["duplicates"]) == (0, 0)


@dataclass(frozen=True)
class Kill:
    """When a process is killed.

    Args:
        state: of the incident that the game day has caused.
        victim: a program of the stack, or the Dagster run that works on the incident.
        replayed: not before some of the missing events are back in the log.
    """

    state: State
    victim: str
    gameday: str = "accidental-delete"
    replayed: bool = False

    def __str__(self) -> str:
        return f"{self.victim}-while-{self.state}-{self.gameday}"

    def is_due(self, seen: Seen) -> bool:
        """Whether it is time."""
        return seen.state == self.state and (seen.replayed > 0 or not self.replayed)


KILLS = (
    # Sensors are evaluated in the code server: it is what contains.
    Kill("detected", "dagster-code"),
    Kill("detected", "dagster-daemon"),
    Kill("contained", RUN),
    Kill("contained", "lander"),
    Kill("scoped", RUN),
    Kill("scoped", "postgres"),
    Kill("planned", "monitor"),
    Kill("planned", RUN),
    Kill("recovering", RUN, "retention-misconfigured", replayed=True),
    Kill("recovering", "postgres", "retention-misconfigured", replayed=True),
    Kill("recovering", "lander", "retention-misconfigured", replayed=True),
    Kill("verifying", RUN, "retention-misconfigured"),
    Kill("verifying", "dagster-daemon"),
)
"""Each state and each victim; what replays events is killed while they are replayed."""

SEEDS = 3


@pytest.mark.drill
@pytest.mark.stack
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_whatever_is_killed_in_whatever_state(home: Path, kill: Kill) -> None:
    """SIGKILL in the midst of an incident: everything comes back, once, it is proved, and nothing is left held."""
    stack = Watched(home)
    for seed in range(SEED, SEED + SEEDS):
        wait_for(stack.is_quiet, "everything runs, and no incident is under way", 600)
        since = datetime.now(UTC)
        with gameday(home, kill.gameday, seed, "--events", "5000", "--timeout", "1800") as running:
            killed = stack.kill(kill.victim, sorted(SCENARIOS[kill.gameday].causes), since, kill.is_due, 1800)
            reached = None if killed is None else stack.state_at(killed)
            output, errors = running.communicate(timeout=2400)
        if killed is not None and reached not in OVER:
            break
        print(f"seed {seed}: the incident was over before {kill.victim} could be killed while it was {kill.state}")
    else:
        pytest.fail(f"{SEEDS} incidents were over before {kill.victim} could be killed while they were {kill.state}")
    told = f"seed {seed}, killed {kill.victim} {killed}, by then {reached}: {output}\n{errors}"
    print(told)
    stack.assert_died(kill.victim, killed)
    assert output, told
    figures = json.loads(output)
    assert (figures["differences_left"], figures["duplicates"]) == (0, 0), told
    assert figures["targets"]["recovered"]["measured"].endswith(" s"), told
    incidents = stack.incidents_since(since)
    assert {figures["incident_id"], killed.seen.incident_id} <= set(incidents), told
    for incident_id in incidents:
        shown = command(home, "incident", "show", incident_id)
        assert shown.returncode == 0, f"the timeline of {incident_id} is not whole: {shown.stdout}{shown.stderr}"
    wait_for(lambda: not stack.left_over(incidents), f"nothing is held and nothing stays intended: {incidents}", 120)


@contextmanager
def gameday(home: Path, name: str, seed: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A game day in a process of its own; where the block ends before it, it puts back what it has changed."""
    running = subprocess.Popen(
        (*COMMAND, "gameday", "run", name, "--seed", str(seed), "--json", *options),
        env=environment_of(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            running.communicate(timeout=120)


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the stack, run to its end."""
    return subprocess.run(
        (*COMMAND, *arguments), env=environment_of(home), capture_output=True, text=True, timeout=1800, check=False
    )


def environment_of(home: Path) -> dict[str, str]:
    """What a command needs to find the stack."""
    return {**os.environ, HOME_VARIABLE: str(home)}
