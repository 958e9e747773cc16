"""Runs of jobs that fail are a signal for each job, as long as its last run has failed."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.signals import clear_signal, open_signal_keys, raise_window_signal
from incident_pipelines.core.incidents.timeline import clean
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import Fact, grade
from incident_pipelines.stages.monitoring.monitor import LEVELS

LOGGER = logging.getLogger(__name__)

KIND = "run_failed"
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class EndedRun:
    """How the last run of a job has ended.

    Args:
        problem: why it failed; None where it succeeded.
    """

    run_id: str
    ended_at: datetime
    problem: str | None = None


@dataclass(frozen=True)
class Watched:
    """Jobs whose signal was raised or cleared."""

    raised: tuple[str, ...]
    cleared: tuple[str, ...]


def watch_runs(control: Engine, last_runs: Mapping[str, EndedRun | None]) -> Watched:
    """Raise a signal for each job whose last run has failed, once while that lasts, and clear what is over.

    Args:
        last_runs: by job, of every job that there is; None where nothing is known of any run: its signal stays.

    Raises:
        SourceUnavailable: the control database does not answer; nothing was changed.
    """
    raised: list[str] = []
    cleared: list[str] = []
    with available("control database"), control.begin() as connection:
        for job, (signal_id, _) in open_signal_keys(connection, KIND).items():
            last = last_runs.get(job)
            if job not in last_runs or (last is not None and last.problem is None):
                clear_signal(connection, signal_id)
                cleared.append(job)
        for job, run in last_runs.items():
            if run is None or run.problem is None:
                continue
            # The first line only: what follows may quote data.
            problem = clean(run.problem.strip().partition("\n")[0])[:SHOWN_CHARACTERS]
            detail = {"signal_key": job, "job": job, "run_id": run.run_id, "problem": problem}
            fact = Fact(0, KIND, job, None, None, detail, run.ended_at)
            grading, summary = grade(KIND), summarize(fact)
            signal_id = raise_window_signal(connection, fact, grading, summary)
            if signal_id is not None:
                raised.append(job)
                LOGGER.log(
                    LEVELS[grading.severity],
                    "signal",
                    extra=fields(severity=grading.severity, signal_id=signal_id, kind=KIND, summary=summary),
                )
    return Watched(tuple(raised), tuple(cleared))
