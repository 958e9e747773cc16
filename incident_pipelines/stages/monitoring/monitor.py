"""Facts → signals: each fact is one row of monitoring.signals, whatever dies or is down meanwhile."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.facts import WaitingFacts, ended_before, facts_between, waiting_facts
from incident_pipelines.adapters.stores.signals import move_cursor, raise_signal, take_cursor
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import Severity, grade

LOGGER = logging.getLogger(__name__)

CURSOR = "landing.facts"
POLL_SECONDS = 1.0
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 15.0
WAITING_SECONDS = 30.0
"""Facts that are held back longer than this by an older transaction are told, at most this often."""

LEVELS: Mapping[Severity, int] = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "page": logging.ERROR,
    "critical": logging.CRITICAL,
}


def keep_doing(work: Callable[[], object], seconds: float, stop: threading.Event, failing: str, again: str) -> None:
    """Do something every so many seconds until told to stop; a database that is down is waited for.

    Args:
        failing, again: logged when it cannot be done, and when it can again.
    """
    failing_since: float | None = None
    backoff = FIRST_BACKOFF_SECONDS
    while not stop.is_set():
        started = time.monotonic()
        try:
            work()
        except (SourceUnavailable, SQLAlchemyError) as error:
            failing_since = failing_since or time.monotonic()
            LOGGER.warning(f"{failing}, will try again", extra=fields(cause=_cause(error), seconds=backoff))
            stop.wait(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            continue
        if failing_since is not None:
            LOGGER.info(again, extra=fields(after_seconds=round(time.monotonic() - failing_since, 1)))
            failing_since, backoff = None, FIRST_BACKOFF_SECONDS
        stop.wait(max(seconds - (time.monotonic() - started), POLL_SECONDS))


class Monitor:
    """The one process that turns facts into signals; a second one waits for the first at every step.

    Args:
        environment: WAREHOUSE_URL and CONTROL_DATABASE_URL.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._warehouse = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines monitor", pool_size=1)
        self._control = postgres_engine(environment["CONTROL_DATABASE_URL"], "incident-pipelines monitor", pool_size=1)
        self._told_waiting = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Raise signals until told to stop; a database that is down is waited for."""
        LOGGER.info("monitor started")
        keep_doing(self.raise_signals, POLL_SECONDS, stop, "no signals can be raised now", "monitor goes on")
        self.close()
        LOGGER.info("monitor stopped")

    def raise_signals(self) -> int:
        """Turn the facts that are new into signals; signals and cursor are one transaction of the control database.

        Facts are read by transactions that have all ended, so that one which commits late is not passed over.

        Returns:
            How many signals were raised.

        Raises:
            SourceUnavailable: warehouse or control database do not answer; nothing was changed.
        """
        raised: list[tuple[int, dict[str, object], Severity]] = []
        with available("control database"), self._control.begin() as control:
            cursor = take_cursor(control, CURSOR)
            # Autocommit: the reader itself holds nothing in the warehouse back.
            with available("warehouse"):
                warehouse = self._warehouse.connect().execution_options(isolation_level="AUTOCOMMIT")
            with warehouse:
                end = ended_before(warehouse)
                start = cursor
                if end < cursor:
                    LOGGER.error(
                        "the warehouse is older than what was read of it; its facts are read again from the first one",
                        extra=fields(cursor=cursor, oldest_running=end),
                    )
                    start = 0
                for stored in facts_between(warehouse, start, end):
                    fact = stored.fact
                    grading, summary = grade(fact.kind, fact.detail), summarize(fact)
                    signal_id = raise_signal(control, stored, grading, summary)
                    failpoint("monitor.raised")
                    if signal_id is not None:
                        told = {
                            "signal_id": signal_id,
                            "kind": fact.kind,
                            "dataset": fact.dataset,
                            "fact_id": fact.fact_id,
                        }
                        raised.append((signal_id, {**told, "summary": summary}, grading.severity))
                self._tell_waiting(waiting_facts(warehouse, end, WAITING_SECONDS))
            if end != cursor:
                move_cursor(control, CURSOR, end)
            failpoint("monitor.before_commit")
        failpoint("monitor.after_commit")
        for _, told, severity in raised:
            LOGGER.log(LEVELS[severity], "signal", extra=fields(severity=severity, **told))
        return len(raised)

    def close(self) -> None:
        """Close the connections."""
        self._warehouse.dispose()
        self._control.dispose()

    def _tell_waiting(self, waiting: WaitingFacts | None) -> None:
        if waiting is not None and time.monotonic() - self._told_waiting > WAITING_SECONDS:
            self._told_waiting = time.monotonic()
            LOGGER.warning(
                "facts wait for an older transaction to end", extra=fields(facts=waiting.count, since=waiting.since)
            )


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
