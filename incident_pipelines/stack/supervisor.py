"""supervisord: its configuration, starting it, and talking to it over its unix socket."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from incident_pipelines.adapters.processes import UNREACHABLE, full_name, supervisor_at
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import HOME_VARIABLE, Home, write_atomically
from incident_pipelines.stack.programs import PROGRAM_VARIABLE, Program

# supervisord waits one second longer after each failed start; nothing of ours is ever given up.
_NEVER_GIVE_UP = 1_000_000_000
_FAULT_ALREADY_STARTED = 60
_FAULT_NOT_RUNNING = 70
_FAULT_BAD_NAME = 10
_ANSWER_SECONDS = 90.0  # it answers when a process that it stops has ended
_PR_SET_PDEATHSIG = 1
_ADDRESSES = re.compile(
    r"PG[A-Z]+$|.*_DATABASE_URL$|WAREHOUSE_URL$|DAGSTER_(POSTGRES_URL|HOME)$|KAFKA_BOOTSTRAP|INCIDENT_PIPELINES_SUPERVISOR$"
)
_LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class ProcessState:
    """One process as supervisord sees it.

    Args:
        name: Its name in `status`.
        state: supervisord's word: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL, …
        pid: None when it does not run.
        uptime_seconds: Since its last start; None when it does not run.
        description: supervisord's explanation, such as `Exited too quickly`.
    """

    name: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    description: str


class Supervisor:
    """The supervisord of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def write_config(self, programs: Iterable[tuple[Program, Mapping[str, str]]]) -> None:
        """Write the configuration.

        Args:
            programs: Each program with its whole environment beyond the inherited one.
        """
        home = self._home
        sections = [
            f"[unix_http_server]\nfile={_literal(home.supervisor_socket)}\nchmod=0700\n",
            "[supervisord]\n"
            f"pidfile={_literal(home.supervisor_pid_file)}\nlogfile={_literal(home.logs / 'supervisord.log')}\n"
            f"logfile_maxbytes={_LOG_BYTES}\nlogfile_backups=1\nchildlogdir={_literal(home.logs)}\n"
            "minfds=4096\nnodaemon=true\nsilent=true\nidentifier=incident_pipelines\n",
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n",
        ]
        sections += [self._section(program, environment) for program, environment in programs]
        # Addresses of sources may hold passwords.
        write_atomically(home.supervisor_config, "\n".join(sections), mode=0o600)

    def start(self, *, ends_with_caller: bool = False, withheld: Collection[str] = ()) -> None:
        """Start supervisord in a session of its own and wait until it answers. It starts no program by itself.

        Args:
            ends_with_caller: Whether it stops everything when the calling process dies (on Linux): for tests.
            withheld: Variables of the caller that only those processes get whose environment names them.

        Raises:
            StackError: It ended at once.
        """
        home = self._home
        home.supervisor_socket.unlink(missing_ok=True)
        # Addresses in the caller's environment would reach processes whose role must not have them.
        kept = {key for key in os.environ if not _ADDRESSES.match(key)} - set(withheld)
        environment = {key: os.environ[key] for key in kept}
        environment |= {HOME_VARIABLE: str(home.path), PROGRAM_VARIABLE: "supervisord"}
        command = (sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home.supervisor_config))
        log = home.logs / "supervisord.start.log"
        with log.open("wb") as output:
            # Its own session: a Ctrl-C in the terminal is for the command alone, which then stops things in order.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                env=environment, start_new_session=True, preexec_fn=_end_with_parent if ends_with_caller else None,
            )  # fmt: skip
        deadline = time.monotonic() + 30.0
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"supervisord did not start: {log.read_text(errors='replace').strip()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int | None:
        """The pid of this home's living supervisord. A stale pid file, or a pid that is now another's, gives None."""
        try:
            process = psutil.Process(int(self._home.supervisor_pid_file.read_text()))
            if process.status() == psutil.STATUS_ZOMBIE or str(self._home.supervisor_config) not in process.cmdline():
                return None
            return process.pid
        except (OSError, ValueError, psutil.Error):
            return None

    def answers(self) -> bool:
        """Whether a supervisord listens on the socket."""
        try:
            with self._rpc() as rpc:
                return rpc.getState()["statename"] == "RUNNING"
        except UNREACHABLE:
            return False

    def processes(self) -> list[ProcessState]:
        """All processes, in the order of the configuration's priorities.

        Raises:
            StackError: supervisord does not answer.
        """
        with self._reachable() as rpc:
            infos: list[dict[str, Any]] = rpc.getAllProcessInfo()
        return [
            ProcessState(
                name=full_name(info["group"], info["name"]),
                state=info["statename"],
                pid=info["pid"] or None,
                uptime_seconds=float(info["now"] - info["start"]) if info["pid"] else None,
                description=str(info["spawnerr"] or info["description"]),
            )
            for info in infos
        ]

    def state_of(self, name: str) -> str:
        """The state of one process.

        Raises:
            StackError: supervisord does not answer.
        """
        with self._reachable() as rpc:
            return str(rpc.getProcessInfo(_rpc_name(name))["statename"])

    def start_process(self, name: str) -> None:
        """Ask for a process to run, without waiting. One that runs already is left alone."""
        with self._reachable() as rpc:
            try:
                rpc.startProcess(_rpc_name(name), False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != _FAULT_ALREADY_STARTED:
                    raise StackError(f"{name} cannot be started: {fault.faultString}") from fault

    def stop_process(self, name: str) -> None:
        """Stop a process and wait until it has ended. One that does not run is left alone."""
        with self._reachable() as rpc:
            try:
                rpc.stopProcess(_rpc_name(name), True)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in (_FAULT_NOT_RUNNING, _FAULT_BAD_NAME):
                    raise StackError(f"{name} cannot be stopped: {fault.faultString}") from fault

    def stop_processes(self, names: Iterable[str]) -> None:
        """Stop several processes at the same time and wait until all have ended."""
        with self._reachable() as rpc:
            for name in names:
                try:
                    rpc.stopProcess(_rpc_name(name), False)
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode not in (_FAULT_NOT_RUNNING, _FAULT_BAD_NAME):
                        raise StackError(f"{name} cannot be stopped: {fault.faultString}") from fault
        for name in names:
            self.stop_process(name)

    def shut_down(self) -> None:
        """Stop what still runs, and supervisord itself, and wait until it has gone."""
        pid = self.pid
        try:
            with self._rpc() as rpc:
                rpc.shutdown()
        except UNREACHABLE:
            pass
        if pid is not None:
            try:
                psutil.Process(pid).wait(timeout=60)
            except psutil.NoSuchProcess:
                pass
            except psutil.TimeoutExpired as error:
                raise StackError(f"supervisord (pid {pid}) does not end") from error
        self._home.supervisor_pid_file.unlink(missing_ok=True)
        self._home.supervisor_socket.unlink(missing_ok=True)

    def _section(self, program: Program, environment: Mapping[str, str]) -> str:
        numbered = program.members > 1 or program.numbered
        command = " ".join(_quoted(part) for part in program.command)
        variables = {**environment, PROGRAM_VARIABLE: program.name}
        assigned = ",".join(f"{key}={_assigned(value)}" for key, value in sorted(variables.items()))
        log = _literal(self._home.logs / program.name)
        lines = {
            "command": command.replace("{number}", "%(process_num)d"),
            "environment": assigned,
            "directory": _literal(self._home.path),
            "autostart": "false",
            "autorestart": "true",
            "startretries": _NEVER_GIVE_UP,
            "startsecs": program.start_seconds,
            "stopsignal": program.stop_signal,
            "stopwaitsecs": program.stop_seconds,
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": log + ("-%(process_num)d.log" if numbered else ".log"),
            "stdout_logfile_maxbytes": _LOG_BYTES,
            "stdout_logfile_backups": 2,
        }
        if numbered:
            lines |= {"numprocs": program.members, "process_name": "%(process_num)d"}
        return f"[program:{program.name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())

    @contextmanager
    def _reachable(self) -> Iterator[Any]:
        try:
            with self._rpc() as rpc:
                yield rpc
        except UNREACHABLE as error:
            raise StackError(f"supervisord of {self._home.path} does not answer: {error}") from error

    def _rpc(self) -> AbstractContextManager[Any]:
        return supervisor_at(str(self._home.supervisor_socket), _ANSWER_SECONDS)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _rpc_name(name: str) -> str:
    return name if ":" in name else f"{name}:{name}"


def _literal(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(value: str) -> str:
    """A command's part: supervisord expands %, splits with shlex, and cuts a line at ` ;` and ` #`."""
    if re.search(r"[\n\r]|\s[;#]", value):
        raise StackError(f"supervisord cannot pass this on: {value!r}", "choose a path without ' ;' and ' #'")
    return '"' + _literal(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _assigned(value: str) -> str:
    """A variable's value: here supervisord knows quotes, no escapes inside them, and strips all at both ends."""
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value or re.search(r"[\n\r]|\s[;#]", value):
        raise StackError(f"supervisord cannot pass this on: {value!r}", "choose a value without mixed quotes")
    return quote + _literal(value) + quote
