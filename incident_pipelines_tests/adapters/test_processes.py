"""Processes are started again through the real supervisord, and only if they do not run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.adapters.processes import SUPERVISOR_VARIABLE, start_processes
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.programs import Program
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stack.supervisor import Supervisor
from incident_pipelines_tests.landing_tools import wait_for

SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")
# It ends one second after it was asked to: the state STOPPING can be seen.
SLOW = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, lambda *_: (time.sleep(1), exit(0))); print('up', flush=True); "
    "signal.pause()",
)


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Supervisor, dict[str, str]]]:
    home = Home.at(tmp_path_factory.mktemp("supervised"))
    home.create()
    supervisor = Supervisor(home)
    programs = (
        Program("worker", SLEEPER, members=2, start_seconds=0),
        Program("worker_two", SLEEPER, start_seconds=0),
        Program("slow", SLOW, start_seconds=0),
        Program("absent", ("/nowhere/at/all",)),
    )
    supervisor.write_config((program, {}) for program in programs)
    supervisor.start(ends_with_caller=True)
    try:
        yield supervisor, {SUPERVISOR_VARIABLE: str(home.supervisor_socket)}
    finally:
        supervisor.shut_down()


def test_what_was_stopped_runs_again_and_nothing_else_is_touched(
    supervisor: tuple[Supervisor, dict[str, str]],
) -> None:
    supervised, environment = supervisor
    supervised.start_process("worker:1")
    wait_for(lambda: supervised.state_of("worker:1") == "RUNNING", "worker:1 runs")
    pid = {one.name: one.pid for one in supervised.processes()}["worker:1"]
    done = start_processes(environment, "worker")
    assert (done.started, done.running) == (("worker:0",), ("worker:1",))
    wait_for(lambda: supervised.state_of("worker:0") == "RUNNING", "worker:0 runs")
    again = start_processes(environment, "worker")
    assert (again.started, again.running) == ((), ("worker:0", "worker:1"))
    after = {one.name: one for one in supervised.processes()}
    assert after["worker:1"].pid == pid
    assert after["worker_two"].state == "STOPPED"


def test_a_process_that_is_being_stopped_is_waited_for(supervisor: tuple[Supervisor, dict[str, str]]) -> None:
    supervised, environment = supervisor
    assert start_processes(environment, "slow").started == ("slow",)
    log = Path(environment[SUPERVISOR_VARIABLE]).parents[1] / "logs" / "slow.log"
    wait_for(lambda: log.exists() and "up" in log.read_text(), "it can be asked to end")
    stopping = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from incident_pipelines.stack.locations import Home; "
            "from incident_pipelines.stack.supervisor import Supervisor; "
            "Supervisor(Home(Path(sys.argv[1]))).stop_process('slow')",
            str(log.parents[1]),
        ]
    )
    wait_for(lambda: supervised.state_of("slow") == "STOPPING", "it is being stopped")
    assert start_processes(environment, "slow").started == ("slow",)
    assert stopping.wait(20) == 0
    wait_for(lambda: supervised.state_of("slow") == "RUNNING", "it runs again")


def test_what_cannot_be_done_is_said(supervisor: tuple[Supervisor, dict[str, str]], tmp_path: Path) -> None:
    _, environment = supervisor
    for variables, program, said in (
        ({}, "worker", f"{SUPERVISOR_VARIABLE} is not set"),
        ({SUPERVISOR_VARIABLE: str(tmp_path / "no.sock")}, "worker", "does not answer"),
        (environment, "nobody", "knows no nobody; it runs absent, slow, worker:0, worker:1, worker_two"),
        (environment, "absent", "absent cannot be started: NO_FILE"),
    ):
        with pytest.raises(SourceUnavailable, match=said):
            start_processes(variables, program)


@pytest.mark.stack
def test_who_works_on_incidents_reaches_the_supervisor_of_its_stack(stack: Stack) -> None:
    assert start_processes(stack.environment("publisher"), "kafka").running == ("kafka",)
    for role in ("lander", "monitor", None):
        assert SUPERVISOR_VARIABLE not in stack.environment(role)
