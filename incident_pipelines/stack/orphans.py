"""Processes that a crashed supervisord leaves behind."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import HOME_VARIABLE, Home
from incident_pipelines.stack.programs import PROGRAM_VARIABLE

# Everything here survives a kill by design; waiting only spares PostgreSQL a recovery.
_GRACE_SECONDS = 8.0


def find_orphans(home: Home, spared: frozenset[str] = frozenset()) -> dict[int, str]:
    """Processes of a home's stack that are alive: pid → program.

    Args:
        spared: Programs that are not reported; the caller never is.
    """
    found: dict[int, str] = {}
    for process in psutil.process_iter(["pid"]):
        if process.pid == os.getpid():
            continue
        try:
            program = _program_of(process, home)
            if program is not None and program not in spared and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = program
        except psutil.Error:
            continue
    return found


def stop_orphans(
    home: Home, report: Callable[[str], None] = lambda _: None, spared: frozenset[str] = frozenset()
) -> list[str]:
    """Stop what is left of a home's stack, cleanly if it goes, and give the programs' names.

    Args:
        report: Told what is stopped.
        spared: Programs that go on.

    Raises:
        StackError: A process cannot be stopped.
    """
    orphans = find_orphans(home, spared)
    if not orphans:
        return []
    names = sorted(set(orphans.values()))
    report(f"stopping what was left running: {', '.join(names)}")
    # supervisord first and at once, or it restarts what is stopped after it.
    for pid in [pid for pid, name in orphans.items() if name == "supervisord"]:
        _signal(pid, signal.SIGKILL)
    # Fast shutdown for PostgreSQL; its own children follow their parent, a signal would only disturb them.
    for pid, name in orphans.items():
        if name == "postgres":
            _signal(pid, signal.SIGINT)
        elif name not in ("supervisord", "postgres-child"):
            _signal(pid, signal.SIGTERM)
    gone_or_alive = [psutil.Process(pid) for pid in orphans if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(gone_or_alive, timeout=_GRACE_SECONDS)
    for process in alive:
        _signal(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(alive, timeout=5.0)
    # Children that were born between the search and the signals.
    for pid in find_orphans(home, spared):
        _signal(pid, signal.SIGKILL)
    if alive:
        raise StackError(f"these processes cannot be stopped: {', '.join(str(process.pid) for process in alive)}")
    return names


def _program_of(process: psutil.Process, home: Home) -> str | None:
    # PostgreSQL's children write their status over their environment, but they stay in the data folder.
    if process.name() == "postgres":
        if Path(process.cwd()) != home.postgres_data:
            return None
        return "postgres" if process.pid == _postmaster(home) else "postgres-child"
    variables = process.environ()
    if variables.get(HOME_VARIABLE) == str(home.path):
        return variables.get(PROGRAM_VARIABLE)
    return None


def _postmaster(home: Home) -> int | None:
    try:
        return int((home.postgres_data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise StackError(f"process {pid} of this stack belongs to another user", "stop it as that user") from error
