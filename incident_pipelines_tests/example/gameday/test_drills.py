"""Every game day on a whole stack of its own: minutes each, run by `make drills`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.example.gameday.catalogue import SCENARIOS

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
