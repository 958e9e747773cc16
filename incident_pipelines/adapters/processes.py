"""The processes of a stack, through the supervisord that runs them: starts again what has ended or was stopped."""

import http.client
import socket
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from incident_pipelines.core.errors import SourceUnavailable

SUPERVISOR_VARIABLE = "INCIDENT_PIPELINES_SUPERVISOR"
"""Path of the unix socket on which supervisord listens; its owner alone may connect."""

UNREACHABLE = (OSError, http.client.HTTPException, xmlrpc.client.Error)
"""What a call of supervisord raises when it does not answer; one that is shutting down answers with faults."""

ANSWER_SECONDS = 10.0
STOPPING_SECONDS = 60.0
"""A process that is being stopped right now is waited for so long."""

POLL_SECONDS = 0.1
_FAULT_ALREADY_STARTED = 60


@dataclass(frozen=True)
class Started:
    """What was done.

    Args:
        started: full names of the processes that did not run.
        running: full names of those that did, or that supervisord was starting by itself.
    """

    started: tuple[str, ...]
    running: tuple[str, ...]


def start_processes(environment: Mapping[str, str], prefix: str) -> Started:
    """Start all processes of a program that do not run; calling it again does nothing.

    A process that hangs counts as running: nothing here ends one.

    Args:
        environment: with `SUPERVISOR_VARIABLE`.
        prefix: name of the program, like ``lander``: of ``lander:0`` and ``lander:1``, not of ``lander_two``.

    Raises:
        SourceUnavailable: no supervisor is configured, it does not answer, knows no such program or cannot start it.
    """
    path = environment.get(SUPERVISOR_VARIABLE)
    if not path:
        raise SourceUnavailable(
            f"{prefix} cannot be started from here: {SUPERVISOR_VARIABLE} is not set; start it where it is supervised"
        )
    try:
        with supervisor_at(path, ANSWER_SECONDS) as supervisor:
            return _start(supervisor, prefix, path)
    except UNREACHABLE as error:
        raise SourceUnavailable(f"the supervisor at {path} does not answer: {error}") from error


@contextmanager
def supervisor_at(path: str, timeout_seconds: float) -> Iterator[Any]:
    """Give the XML-RPC interface of the supervisord that listens on a unix socket.

    What it raises in use is one of `UNREACHABLE`.
    """
    transport = _UnixTransport(path, timeout_seconds)
    with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
        yield proxy.supervisor


def full_name(group: str, name: str) -> str:
    """Return a process's name as `status` shows it."""
    return name if group == name else f"{group}:{name}"


def _start(supervisor: Any, prefix: str, path: str) -> Started:
    found = _processes(supervisor)
    names = [name for name in found if name == prefix or name.startswith(f"{prefix}:")]
    if not names:
        raise SourceUnavailable(f"the supervisor at {path} knows no {prefix}; it runs {', '.join(sorted(found))}")
    started: list[str] = []
    deadline = time.monotonic() + STOPPING_SECONDS
    for name in names:
        while found[name] == "STOPPING" and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found = _processes(supervisor)
        # BACKOFF and STARTING: supervisord is at it by itself.
        if found[name] in ("RUNNING", "STARTING", "BACKOFF"):
            continue
        try:
            supervisor.startProcess(name if ":" in name else f"{name}:{name}", False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _FAULT_ALREADY_STARTED:
                continue
            raise SourceUnavailable(f"{name} cannot be started: {fault.faultString}") from fault
        started.append(name)
    return Started(tuple(started), tuple(name for name in names if name not in started))


def _processes(supervisor: Any) -> dict[str, str]:
    infos: list[dict[str, Any]] = supervisor.getAllProcessInfo()
    return {full_name(str(info["group"]), str(info["name"])): str(info["statename"]) for info in infos}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_seconds = timeout_seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, self._timeout_seconds)
