"""PostgreSQL and Kafka of a stack after crashes of all kinds."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from incident_pipelines.stack.orphans import find_orphans
from incident_pipelines.stack.stack import INFRASTRUCTURE, Stack, wait_for
from incident_pipelines.stack.status import status_of

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def crashing() -> Iterator[Stack]:
    """A stack of its own, in a home too deep for its sockets."""
    # Not in pytest's folder: each new session of pytest closes that to PostgreSQL's account.
    with tempfile.TemporaryDirectory(prefix="ip-test-") as folder:
        stack = Stack(Path(folder) / ("x" * 80), durable=False, ends_with_caller=True)
        stack.start_infrastructure()
        yield stack
        stack.stop()


def _pids(stack: Stack) -> dict[str, int | None]:
    return {process.name: process.pid for process in stack.supervisor.processes()}


def _answers(stack: Stack) -> None:
    stack.postgres.wait_until_ready(lambda: True, 60.0)
    assert wait_for(lambda: status_of(stack).exit_code == 0, 60.0)


def test_two_stacks_run_side_by_side(crashing: Stack, stack: Stack) -> None:
    assert not set(crashing.state.ports.values()) & set(stack.state.ports.values())
    assert status_of(stack).exit_code == 0
    assert status_of(crashing).exit_code == 0


@pytest.mark.parametrize("name", INFRASTRUCTURE)
def test_a_killed_process_comes_back_with_what_it_held(crashing: Stack, name: str) -> None:
    with crashing.postgres.connect("warehouse") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
        rows = connection.execute("SELECT count(*) FROM kept").fetchone()
    pid = _pids(crashing)[name]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: _pids(crashing)[name] not in (None, pid), 60.0)
    _answers(crashing)
    with crashing.postgres.connect("warehouse") as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == rows


def test_what_a_killed_supervisord_leaves_is_stopped_before_the_next_start(crashing: Stack) -> None:
    before = _pids(crashing)
    pid = crashing.supervisor.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: crashing.supervisor.pid is None, 10.0)
    assert set(find_orphans(crashing.home).values()) >= set(INFRASTRUCTURE)
    assert status_of(crashing).exit_code == 1
    crashing.start_infrastructure()
    _answers(crashing)
    assert not set(before.values()) & set(_pids(crashing).values())
    assert not any(psutil.pid_exists(old) for old in before.values() if old)


def test_files_of_a_crashed_machine_do_not_hinder_a_start(crashing: Stack) -> None:
    assert crashing.stop()
    assert status_of(crashing).exit_code == 3
    home = crashing.home
    # After a reboot these pids may belong to anybody, such as this test.
    home.supervisor_pid_file.write_text(f"{os.getpid()}\n")
    home.supervisor_socket.touch()
    (home.postgres_data / "postmaster.pid").write_text(f"{os.getpid()}\n{home.postgres_data}\n")
    (home.path / "postgres.unfinished").mkdir()
    crashing.start_infrastructure()
    _answers(crashing)


def test_stopping_twice_is_no_error(tmp_path: Path) -> None:
    assert not Stack(tmp_path / "never").stop()
