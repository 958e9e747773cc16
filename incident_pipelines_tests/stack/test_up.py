"""`up`, `status` and `down` as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.stack.locations import HOME_VARIABLE
from incident_pipelines.stack.stack import Stack, wait_for

pytestmark = pytest.mark.drill

_COMMAND = (sys.executable, "-m", "incident_pipelines.cli")


@pytest.fixture
def home() -> Iterator[Path]:
    # Not in pytest's folder: each new session of pytest closes that to PostgreSQL's account.
    with tempfile.TemporaryDirectory(prefix="ip-test-") as folder:
        path = Path(folder) / "home"
        yield path
        _run(path, "down")


def _run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, HOME_VARIABLE: str(home)}
    return subprocess.run(
        (*_COMMAND, *arguments), env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def _states(home: Path) -> dict[str, str]:
    return json.loads(_run(home, "status", "--json").stdout)["processes"]


@pytest.mark.timeout(1800)
def test_every_process_comes_back_and_a_second_start_is_fast(home: Path) -> None:
    assert _run(home, "status").returncode == 3
    started = _run(home, "up", "--detach", "--no-example", "--landers", "2")
    assert started.returncode == 0, started.stderr
    assert {"lander:0", "lander:1", "dagster-code", "keeper", "postgres"} <= set(_states(home))
    assert "running already" in _run(home, "up").stdout

    stack = Stack(home)
    pids = {process.name: process.pid for process in stack.supervisor.processes()}
    for name, pid in pids.items():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda name=name, pid=pid: _came_back(stack, {name: pid}), 120.0), name
    pids = {process.name: process.pid for process in stack.supervisor.processes()}
    supervisor = stack.supervisor.pid
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    assert wait_for(lambda: stack.supervisor.answers() and _came_back(stack, pids), 180.0)

    assert _run(home, "down").returncode == 0
    assert _run(home, "status").returncode == 3
    since = time.monotonic()
    again = _run(home, "up", "--detach", "--no-example")
    assert again.returncode == 0, again.stderr
    print(f"second start: {time.monotonic() - since:.1f} s")


def test_ctrl_c_stops_everything(home: Path) -> None:
    environment = {**os.environ, HOME_VARIABLE: str(home)}
    command = subprocess.Popen(
        (*_COMMAND, "up", "--no-example"), env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert command.stdout is not None
    assert any("Ctrl-C stops it" in line for line in command.stdout)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(120) == 0
    assert _run(home, "status").returncode == 3


def _came_back(stack: Stack, former: dict[str, int | None]) -> bool:
    now = {process.name: process for process in stack.supervisor.processes()}
    return all(now[name].state == "RUNNING" and now[name].pid != pid for name, pid in former.items())
