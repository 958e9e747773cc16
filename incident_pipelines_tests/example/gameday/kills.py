"""SIGKILL of a process of one stack while an incident of it is in a certain state, and what has to hold afterwards."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.core.incidents.incident import State
from incident_pipelines.core.incidents.scope import WATCHED_CAUSES
from incident_pipelines.stack.services import CODE_SERVER
from incident_pipelines.stack.stack import Stack
from incident_pipelines_tests.landing_tools import wait_for

RUN = "run"
"""The process of the Dagster run that works on the incident; all other victims are programs of the supervisor."""

DIES_SECONDS = 20.0
BACK_SECONDS = 180.0
OVER: frozenset[str] = frozenset({"recovered", "resolved", "reviewed", "escalated"})

_SEEN = """
SELECT i.incident_id, i.state, (
    SELECT count(*) FROM incidents.timeline t
    WHERE t.incident_id = i.incident_id AND t.kind = 'replayed' AND t.at >= %(since)s
)
FROM incidents.incidents i
WHERE i.cause = ANY (%(causes)s) AND EXISTS (
    SELECT FROM incidents.signals j JOIN monitoring.signals s USING (signal_id)
    WHERE j.incident_id = i.incident_id AND s.raised_at >= %(since)s
)
ORDER BY i.number
"""
# What is merely watched lasts as long as its signals: a game day that has emptied the topics leaves such behind.
_UNDER_WAY = "SELECT incident_id, state FROM incidents.incidents WHERE state <> ALL (%s) AND cause <> ALL (%s)"
_STATE_AT = """
SELECT state_to FROM incidents.timeline
WHERE incident_id = %s AND state_to IS NOT NULL AND at <= %s ORDER BY entry DESC LIMIT 1
"""
_TOUCHED = "SELECT DISTINCT incident_id FROM incidents.timeline WHERE at >= %s ORDER BY 1"
_INTENTS = "SELECT key FROM incidents.actions WHERE incident_id = ANY (%s) AND state = 'intended'"
_HOLDS = "SELECT incident_id, kind, dataset, window_start FROM publication.holds WHERE incident_id = ANY (%s)"
_ENGINE_EVENTS = """
SELECT e.run_id, e.event::json -> 'dagster_event' ->> 'message'
FROM event_logs e JOIN run_tags t USING (run_id) JOIN runs r USING (run_id)
WHERE t.key = 'incident/id' AND t.value = %s AND e.dagster_event_type = 'ENGINE_EVENT' AND r.status = ANY (%s)
ORDER BY e.id
"""
_STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")


@dataclass(frozen=True)
class Seen:
    """An incident at one look.

    Args:
        replayed: spans of events that are back in the log.
    """

    incident_id: str
    state: State
    replayed: int


@dataclass(frozen=True)
class Victims:
    """Living processes that are to be killed; each is known by its pid and the instant of its start.

    Args:
        run_id: of the run, where they are one.
    """

    processes: tuple[psutil.Process, ...]
    run_id: str | None = None


@dataclass(frozen=True)
class Killed:
    """A kill that was one.

    Args:
        seen: of the incident, just before.
        at: instant of the kill; aware.
        pids: of the processes that lived until then.
    """

    seen: Seen
    at: datetime
    pids: tuple[int, ...]
    run_id: str | None


class Watched:
    """A running stack, seen through its databases as their owner and through the tree of its processes."""

    def __init__(self, home: Path) -> None:
        self._stack = Stack(home)
        self._control = self._stack.postgres.url("control")
        self._warehouse = self._stack.postgres.url("warehouse")
        self._dagster = self._stack.postgres.url("dagster")

    def is_quiet(self) -> bool:
        """Whether everything runs and no incident is being worked on."""
        states = {one.state for one in self._stack.supervisor.processes()}
        with _connect(self._control) as connection:
            under_way = connection.execute(_UNDER_WAY, [[*OVER, "awaiting_approval"], list(WATCHED_CAUSES)]).fetchall()
        return states == {"RUNNING"} and not under_way

    def kill(
        self, victim: str, causes: Sequence[str], since: datetime, wanted: Callable[[Seen], bool], seconds: float
    ) -> Killed | None:
        """Kill a program, or the run that works on the incident, as soon as the incident is as wanted.

        Args:
            since: signals before it are of another time.

        Returns:
            What was killed; None where the incident was over first.
        """
        values = {"causes": list(causes), "since": since}
        with _connect(self._control) as connection, _connect(self._dagster) as dagster:

            def reached() -> tuple[Seen, Victims] | Seen | None:
                found = [Seen(*row) for row in connection.execute(_SEEN, values)]
                for seen in (one for one in found if wanted(one)):
                    if victims := self._victims(victim, seen.incident_id, dagster):
                        return seen, victims
                return found[0] if found and all(one.state in OVER for one in found) else None

            found = wait_for(
                reached, f"an incident of {', '.join(causes)} in whose midst {victim} can be killed", seconds
            )
            if isinstance(found, Seen):
                return None
            seen, victims = found
            at = datetime.now(UTC)
            for process in victims.processes:
                process.kill()
        _, alive = psutil.wait_procs(list(victims.processes), timeout=DIES_SECONDS)
        assert not alive, f"{victim} outlives a SIGKILL: {alive}"
        return Killed(seen, at, tuple(one.pid for one in victims.processes), victims.run_id)

    def state_at(self, killed: Killed) -> State:
        """The state that the timeline tells for the instant of a kill, once the database is back.

        An entry's time is taken before it is committed: the state that was seen may be an earlier one, never a later.
        """

        def told() -> list[Any] | None:
            try:
                with _connect(self._control) as connection:
                    return connection.execute(_STATE_AT, [killed.seen.incident_id, killed.at]).fetchall()
            except psycopg.OperationalError:
                return None

        return wait_for(told, "the control database is back", BACK_SECONDS)[0][0]

    def assert_died(self, victim: str, killed: Killed) -> None:
        """Who has the processes in its care noticed that they are gone: nothing but the kill has ended them."""
        if victim != RUN:
            wait_for(lambda: self._is_replaced(victim, killed), f"{victim} is started again", BACK_SECONDS)
            return
        with _connect(self._dagster) as dagster:
            wait_for(
                lambda: any(
                    run_id == killed.run_id and "signal 9 (SIGKILL)" in message
                    for run_id, message in dagster.execute(_ENGINE_EVENTS, [killed.seen.incident_id, ["FAILURE"]])
                ),
                f"Dagster tells that run {killed.run_id} was killed",
                BACK_SECONDS,
            )

    def incidents_since(self, since: datetime) -> list[str]:
        """Ids of the incidents whose timeline has gone on since."""
        with _connect(self._control) as connection:
            return [incident_id for (incident_id,) in connection.execute(_TOUCHED, [since])]

    def left_over(self, incidents: Sequence[str]) -> list[tuple[Any, ...]]:
        """Windows that incidents still hold, and what they intended to do and never said the outcome of."""
        with _connect(self._control) as control, _connect(self._warehouse) as warehouse:
            intents = control.execute(_INTENTS, [list(incidents)]).fetchall()
            return [*intents, *warehouse.execute(_HOLDS, [list(incidents)]).fetchall()]

    def _victims(self, victim: str, incident_id: str, dagster: psycopg.Connection[Any]) -> Victims | None:
        if victim != RUN:
            pids = [one.pid for one in self._processes(victim)]
            return Victims(tuple(psutil.Process(pid) for pid in pids if pid)) if pids and all(pids) else None
        (code_server,) = self._processes(CODE_SERVER)
        for run_id, message in dagster.execute(_ENGINE_EVENTS, [incident_id, ["STARTED"]]):
            if started := _STARTED.search(message):
                process = _child_of(code_server.pid, int(started[1]))
                if process is not None:
                    return Victims((process,), run_id)
        return None

    def _processes(self, program: str) -> list[Any]:
        return [one for one in self._stack.supervisor.processes() if one.name.partition(":")[0] == program]

    def _is_replaced(self, victim: str, killed: Killed) -> bool:
        now = self._processes(victim)
        return all(one.state == "RUNNING" and one.pid not in killed.pids for one in now)


def _connect(url: str) -> AbstractContextManager[psycopg.Connection[Any]]:
    return psycopg.connect(driver_url(url), autocommit=True, connect_timeout=5, application_name="kill drill")


def _child_of(parent_pid: int | None, pid: int) -> psutil.Process | None:
    """The process of that id, if it is alive and a child: an id that Dagster remembers may be another's by now."""
    try:
        process = psutil.Process(pid)
        return process if process.ppid() == parent_pid and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
