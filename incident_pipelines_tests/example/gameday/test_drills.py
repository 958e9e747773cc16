"""Every game day on a whole stack of its own: minutes each, run by `make drills`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from incident_pipelines.adapters.processes import supervisor_at
from incident_pipelines.example.gameday.catalogue import SCENARIOS
from incident_pipelines.stack.locations import Home
from incident_pipelines_tests.landing_tools import wait_for

SEED = int(os.environ.get("GAMEDAY_SEED", "1"))
COMMAND = (sys.executable, "-m", "incident_pipelines.cli")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("gameday")
    environment = {**os.environ, "INCIDENT_PIPELINES_HOME": str(folder)}
    subprocess.run((*COMMAND, "up", "--detach"), env=environment, check=True, timeout=900)
    try:
        yield folder
    finally:
        subprocess.run((*COMMAND, "down"), env=environment, check=True, timeout=300)


@pytest.mark.drill
@pytest.mark.stack
@pytest.mark.parametrize("name", ["accidental-delete", *sorted(set(SCENARIOS) - {"accidental-delete"})])
def test_the_system_closes_it_by_itself(home: Path, name: str) -> None:
    environment = {**os.environ, "INCIDENT_PIPELINES_HOME": str(home)}
    ran = subprocess.run(
        (*COMMAND, "gameday", "run", name, "--seed", str(SEED), "--json"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ran.returncode == 0, f"seed {SEED}: {ran.stdout}\n{ran.stderr}"
    figures = json.loads(ran.stdout)
    assert figures["passed"]
    assert (figures["differences_left"], figures["duplicates"]) == (0, 0)


ORDER = ("contained", "scoped", "planned", "recovering", "verifying", "recovered", "resolved")
PAST = {state: frozenset(ORDER[number:]) for number, state in enumerate(ORDER)}
"""States pass in less than a second: the first look at or behind the one that is asked for is taken."""


def incidents_of(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """All incidents of the stack."""
    listed = subprocess.run(
        (*COMMAND, "incident", "list", "--all", "--json"), env=environment, capture_output=True, text=True, check=False
    )
    return json.loads(listed.stdout) if listed.returncode == 0 else []


def states_of(environment: Mapping[str, str], known: Collection[str]) -> set[str]:
    """States of the incidents that were not known before."""
    return {one["state"] for one in incidents_of(environment) if one["incident_id"] not in known}


def kill(environment: Mapping[str, str], victim: str) -> None:
    """Kill a process of the stack, or the run that is under way, if one is."""
    if victim == "run":
        subprocess.run(("pkill", "-KILL", "-f", "multiprocessing.spawn import spawn_main"), check=False)
        return
    shown = subprocess.run((*COMMAND, "status", "--json"), env=environment, capture_output=True, text=True, check=False)
    home = environment["INCIDENT_PIPELINES_HOME"]
    names = [name for name in json.loads(shown.stdout)["processes"] if name.partition(":")[0] == victim]
    for name in names:
        with supervisor_at(str(Home(Path(home)).supervisor_socket), 10) as supervisor:
            os.kill(supervisor.getProcessInfo(name if ":" in name else f"{name}:{name}")["pid"], signal.SIGKILL)


@pytest.mark.drill
@pytest.mark.stack
@pytest.mark.parametrize("state", ["contained", "recovering", "verifying"])
@pytest.mark.parametrize("victim", ["dagster-daemon", "run", "lander", "monitor", "postgres"])
def test_whatever_is_killed_in_whatever_state(home: Path, victim: str, state: str) -> None:
    """SIGKILL while rows that were deleted are on their way back: they come back, once, and it is proved."""
    environment = {**os.environ, "INCIDENT_PIPELINES_HOME": str(home)}
    known = {one["incident_id"] for one in incidents_of(environment)}
    drill = subprocess.Popen(
        (*COMMAND, "gameday", "run", "accidental-delete", "--seed", str(SEED), "--json"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        reached = wait_for(lambda: states_of(environment, known) & PAST[state], f"an incident is {state}", 300)
        kill(environment, victim)
        output, _ = drill.communicate(timeout=900)
    finally:
        drill.kill()
    figures = json.loads(output)
    assert (figures["differences_left"], figures["duplicates"]) == (0, 0), f"killed {victim} at {reached}: {output}"
