"""Runs one game day: a fault, the system closing it by itself, and the comparison with the truth."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.scope import WATCHED_CAUSES
from incident_pipelines.example.gameday.approval import approve_waiting_plans
from incident_pipelines.example.gameday.drill import SERVICE, CannotRun, Drill
from incident_pipelines.example.gameday.measure import (
    ENDED,
    STUCK,
    Course,
    course_of,
    last_words,
    loss_statement,
    losses_of,
)
from incident_pipelines.example.gameday.scenario import (
    CONTAINED_WITHIN,
    RECOVERED_WITHIN,
    SIGNAL_WITHIN,
    Fault,
    Scenario,
)
from incident_pipelines.example.gameday.truth import Before, Verdict, compare, gone_before
from incident_pipelines.example.settings import settings_from
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.services import WEB_PORT
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stages.incidents.by_hand import open_incidents
from incident_pipelines.stages.landing.state import landing_status

POLL_SECONDS = 1.0
START_SECONDS = 60.0
STILL_SECONDS = 240.0
"""After the service was stopped, everything that it sent has to be published within so long."""

STAYS_SECONDS = 100.0
"""Refresh runs every minute: a number of differences that has stood for so long does not become less by itself."""


@dataclass(frozen=True)
class Target:
    """One goal of a game day.

    Args:
        goal: in words.
        measured: in words; what was found.
    """

    goal: str
    met: bool
    measured: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a game day has shown."""

    name: str
    seed: int
    fault: Fault
    course: Course
    verdict: Verdict
    targets: Mapping[str, Target]

    @property
    def passed(self) -> bool:
        """Whether every goal was met."""
        return all(target.met for target in self.targets.values())

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        course, fault, verdict = self.course, self.fault, self.verdict
        speaks = fault.speaks_at
        return {
            "name": self.name,
            "seed": self.seed,
            "incident_id": course.incident_id,
            "passed": self.passed,
            "seconds_to_breach": _seconds(fault.injured_at, fault.breached_at),
            "seconds_to_signal": _seconds(speaks, course.signal_at),
            "seconds_to_contain": _seconds(speaks, course.contained_at),
            "seconds_to_recovered": _seconds(fault.ended_at, course.recovered_at),
            "events_affected": verdict.affected,
            "recovered": verdict.recovered,
            "unrecoverable": verdict.unrecoverable,
            "unknown": verdict.unknown,
            "duplicates": verdict.duplicates,
            "differences_left": verdict.count,
            "differences": list(verdict.differences),
            "targets": {
                name: {"goal": target.goal, "met": target.met, "measured": target.measured}
                for name, target in self.targets.items()
            },
        }


def run_gameday(
    scenario: Scenario,
    seed: int,
    environment: Mapping[str, str],
    *,
    events: int,
    timeout_seconds: float,
    report: Callable[[str], None],
) -> Outcome:
    """Run a game day on the stack of this home; whatever it changes is put back, also when it fails.

    Args:
        environment: addresses as the stack's owner has them.
        events: how many events a game day that needs its own writes, about.
        timeout_seconds: how long the system may take once the fault is over.
        report: told of each step.

    Raises:
        CannotRun: no stack runs here, or it is not in order; nothing was broken.
        SourceUnavailable: a database or the broker does not answer.
    """
    stack = Stack(Home.from_environment())
    if not stack.supervisor.answers():
        raise CannotRun(f"no stack runs in {stack.home.path}: start it with `incident-pipelines up`")
    drill = Drill(
        environment=environment,
        settings=settings_from(environment),
        catalog=load_catalog(environment),
        supervisor=stack.supervisor,
        seed=seed,
        random=Random(f"{scenario.name} {seed}"),
        events=events,
        report=report,
    )
    control = postgres_engine(environment["CONTROL_DATABASE_URL"], "game day", pool_size=1)
    url = f"http://127.0.0.1:{stack.state.ports.get(WEB_PORT, 0)}"
    with drill.restore:
        drill.restore.callback(control.dispose)
        _require_order(drill, control, scenario)
        before = Before(gone_before(drill), losses_of(control))
        fault = scenario.inject(drill)
        course = wait_for_end(drill, control, scenario, fault, timeout_seconds, url)
        verdict = _still(drill, control, fault, before, course)
    return Outcome(
        name=scenario.name,
        seed=seed,
        fault=fault,
        course=course,
        verdict=verdict,
        targets=judge(fault, course, verdict),
    )


def judge(fault: Fault, course: Course, verdict: Verdict) -> dict[str, Target]:
    """Hold what happened against SPEC §9."""
    signal, recovered = _seconds(fault.speaks_at, course.signal_at), _seconds(fault.ended_at, course.recovered_at)
    # Counted from the signal: how long the rule took to notice is a goal of its own.
    contained = None if course.signal_at is None else _seconds(course.signal_at, course.contained_at)
    limit, end = SIGNAL_WITHIN.total_seconds(), RECOVERED_WITHIN.total_seconds()
    hold = CONTAINED_WITHIN.total_seconds()
    return {
        "signal": Target(
            f"a signal within {limit:.0f} s after the rule is broken",
            signal is not None and signal <= limit,
            _said(signal),
        ),
        "contained": Target(
            f"contained within {hold:.0f} s after the signal",
            contained is not None and contained <= hold,
            _said(contained),
        ),
        "recovered": Target(
            f"recovered within {end:.0f} s after the fault is over",
            recovered is not None and recovered <= end,
            _said(recovered) if recovered is not None else f"the incident is {course.state or 'not there'}",
        ),
        "truth": Target(
            "everything recoverable is restored; marts and loss statement equal the ground truth",
            verdict.count == 0,
            f"{verdict.count} differences left",
        ),
        "duplicates": Target("no duplicates", verdict.duplicates == 0, f"{verdict.duplicates} duplicates"),
    }


def _require_order(drill: Drill, control: Engine, scenario: Scenario) -> None:
    mode: Mode = drill.catalog.mode
    if mode != "act":
        raise CannotRun(f"the catalog's mode is {mode}: a game day waits for the system to act, set it to act")
    # The game day before this one has just started the service again.
    deadline = time.monotonic() + START_SECONDS
    while (down := _not_running(drill)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if down:
        raise CannotRun(f"not everything runs: {', '.join(down)}; see `incident-pipelines status`")
    # What is merely watched does nothing, and lasts: topics that a game day has emptied cannot replay for days.
    known = [one.incident for one in open_incidents(control)]
    under_way = [one for one in known if one.cause not in WATCHED_CAUSES]
    in_the_way = [one.incident_id for one in under_way if one.state not in (*ENDED, *STUCK)]
    stuck = [one.incident_id for one in under_way if one.state in STUCK and one.cause in scenario.causes]
    if in_the_way or stuck:
        named = ", ".join((*in_the_way, *stuck))
        raise CannotRun(f"{named} is open: what it does could not be told from the game day; let it end first")


def _not_running(drill: Drill) -> list[str]:
    return [one.name for one in drill.supervisor.processes() if one.state != "RUNNING"]


def wait_for_end(
    drill: Drill, control: Engine, scenario: Scenario, fault: Fault, timeout_seconds: float, url: str
) -> Course:
    """Wait until the system has closed the fault, or cannot; report each step once.

    Args:
        timeout_seconds: how long it may take once the fault is over; after that its course is returned as it is.
        url: of Dagster.

    Raises:
        SourceUnavailable: the control database does not answer when the time is over.
    """
    said: tuple[object, ...] = ()
    deadline = time.monotonic() + timeout_seconds + max(0.0, (fault.over_at - drill.now()).total_seconds())
    while True:
        is_late = time.monotonic() > deadline
        try:
            course = course_of(control, scenario.causes, fault.injured_at)
            now_said = (course.signal_at is not None, course.incident_id, course.state)
            if now_said != said:
                said = now_said
                drill.report(_told(course, url))
            _approve(drill, control, fault, course)
        except SourceUnavailable as error:
            # A database that dies meanwhile is brought back by its stack, and what it knew is still there.
            if is_late:
                raise
            if said != ("unavailable",):
                said = ("unavailable",)
                drill.report(f"{error}; waiting for it")
            time.sleep(POLL_SECONDS)
            continue
        if course.has_ended:
            if course.state == "escalated" and course.incident_id is not None:
                drill.report(last_words(control, course.incident_id))
            return course
        if is_late:
            drill.report(f"not recovered {timeout_seconds:.0f} s after the fault was over; it is compared as it is")
            return course
        time.sleep(POLL_SECONDS)


def _approve(drill: Drill, control: Engine, fault: Fault, course: Course) -> None:
    for line in approve_waiting_plans(control, course, fault.injured_at, drill.now()):
        drill.report(line)


def _still(drill: Drill, control: Engine, fault: Fault, before: Before, course: Course) -> Verdict:
    """Let the service rest until everything that it sent is published, and compare with the truth."""
    drill.report("the service rests while the warehouse is compared with the ground truth")
    drill.stop(*SERVICE)
    deadline = time.monotonic() + STILL_SECONDS
    last_count, same_since = -1, time.monotonic()
    while any(one.lag for one in landing_status(drill.environment)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    while True:
        # What else the fault has opened may wait for a person as well, with windows that nobody else publishes.
        _approve(drill, control, fault, course)
        loss = loss_statement(control, course.incident_id) if course.incident_id else None
        since = fault.injured_at
        others = [one for name in course.others if (one := loss_statement(control, name, since)) is not None]
        verdict = compare(drill, fault, before, loss, others)
        # What is still being published is no difference; what stays one is.
        if verdict.count != last_count:
            last_count, same_since = verdict.count, time.monotonic()
        stays = time.monotonic() - same_since > STAYS_SECONDS
        if not verdict.count or stays or time.monotonic() > deadline:
            for line in verdict.differences:
                drill.report(line)
            return verdict
        drill.report(f"{verdict.count:,} differences so far; the last minutes are being published")
        time.sleep(10)


def _told(course: Course, url: str) -> str:
    if course.incident_id is None:
        return "a signal was raised" if course.signal_at else "waiting for a signal"
    runs = f"{url}/runs?q[0]=tag:incident/id={course.incident_id}"
    return f"{course.incident_id} is {(course.state or '').replace('_', ' ')}: {runs}"


def _seconds(since: datetime, until: datetime | None) -> float | None:
    return None if until is None else round(max(0.0, (until - since).total_seconds()), 1)


def _said(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
