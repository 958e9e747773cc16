"""Topics and landing every few seconds: a retention below its floor and landing that stands still are signals."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.signals import clear_signal, open_signal_keys, raise_window_signal
from incident_pipelines.adapters.stores.suspensions import Suspension, suspensions
from incident_pipelines.adapters.stores.topic_retentions import remember_retention
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.landing_watch import (
    EVERY,
    KINDS,
    RETENTION_BELOW_FLOOR,
    Finding,
    Position,
    Reader,
    Verdicts,
    Watch,
    judge_landing,
    judge_retention,
    remembered,
)
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import Fact, grade
from incident_pipelines.stages.landing.topic_readers import TopicReaders, TopicsSeen, contract_days
from incident_pipelines.stages.monitoring.monitor import LEVELS, keep_doing

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """What one look did.

    Args:
        raised, cleared: numbers of signals.
    """

    raised: int
    cleared: int


class LandingWatch:
    """Looks at the catalog's topics and at whoever reads them; a second one at the same time raises nothing twice.

    Args:
        environment: WAREHOUSE_URL, CONTROL_DATABASE_URL and, if the catalog has topics, KAFKA_BOOTSTRAP_SERVERS.
        clock: the current time, aware.
    """

    def __init__(
        self,
        catalog: Catalog,
        environment: Mapping[str, str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        name = "incident-pipelines landing watch"
        self._warehouse = postgres_engine(environment["WAREHOUSE_URL"], name, pool_size=1)
        self._control = postgres_engine(environment["CONTROL_DATABASE_URL"], name, pool_size=1)
        self._servers = environment.get("KAFKA_BOOTSTRAP_SERVERS")
        self._readers: TopicReaders | None = None
        self._history: dict[Reader, tuple[Position, ...]] = {}
        self._told_missing: frozenset[str] = frozenset()
        self._told_suspended: dict[Watch, Suspension] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop; whoever does not answer is waited for."""
        failing = "nothing is known of topics and landing now: signals are neither raised nor cleared"
        if self._catalog.topics:
            keep_doing(self.look, EVERY.total_seconds(), stop, failing, "topics and landing are watched again")
        stop.wait()
        self.close()

    def look(self) -> Looked:
        """Look once; raise what is wrong and clear what is right again.

        Raises:
            SourceUnavailable: broker or a database do not answer; nothing was changed.
        """
        if not self._catalog.topics:
            return Looked(0, 0)
        now = self._clock()
        seen = self._topics().look(now)
        self._tell_missing(seen.missing)
        self._history = remembered(self._history, seen.positions)
        verdicts = self._judge(seen, now)
        with available("control database"), self._control.begin() as control:
            suspended = suspensions(control, now)
            # Which watch it is that says nothing: the rest goes on.
            quiet = {kind for watch in suspended for kind in KINDS[watch]}
            raised = [
                told
                for finding in verdicts.wrong
                if finding.kind not in quiet and (told := self._raise(control, finding))
            ]
            cleared = self._clear(control, verdicts)
            for topic, settings in seen.settings.items():
                if (RETENTION_BELOW_FLOOR, topic) in verdicts.right:
                    remember_retention(control, topic, settings.retention_ms, now)
        self._tell_suspended(suspended)
        for fact, summary, signal_id in raised:
            severity = grade(fact.kind).severity
            LOGGER.log(
                LEVELS[severity],
                "signal",
                extra=fields(
                    severity=severity, signal_id=signal_id, kind=fact.kind, dataset=fact.dataset, summary=summary
                ),
            )
        for signal_id, kind, topic in cleared:
            LOGGER.info("signal cleared", extra=fields(signal_id=signal_id, kind=kind, topic=topic))
        return Looked(len(raised), len(cleared))

    def close(self) -> None:
        """Close the connections."""
        if self._readers is not None:
            self._readers.close()
            self._readers = None
        self._warehouse.dispose()
        self._control.dispose()

    def _topics(self) -> TopicReaders:
        if self._readers is None:
            if not self._servers:
                raise SourceUnavailable("Kafka cannot be reached: KAFKA_BOOTSTRAP_SERVERS is not set")
            self._readers = TopicReaders(self._catalog, Topics(self._servers), self._warehouse)
        return self._readers

    def _judge(self, seen: TopicsSeen, now: datetime) -> Verdicts:
        found: list[Verdicts] = []
        for topic, settings in seen.settings.items():
            days = contract_days(self._catalog, topic)
            found.append(judge_retention(settings, days, self._history, now, seen.groups_known))
            found.append(judge_landing(topic, settings, self._history))
        right = frozenset[tuple[str, str]]().union(*(one.right for one in found))
        return Verdicts(tuple(finding for one in found for finding in one.wrong), right)

    def _raise(self, control: Connection, finding: Finding) -> tuple[Fact, str, int] | None:
        fact = Fact(
            fact_id=0,
            kind=finding.kind,
            dataset=self._catalog.topics[finding.topic].name,
            window_start=None,
            window_end=None,
            detail={**finding.detail, "signal_key": finding.topic},
            recorded_at=finding.since,
        )
        summary = summarize(fact)
        signal_id = raise_window_signal(control, fact, grade(fact.kind), summary)
        return None if signal_id is None else (fact, summary, signal_id)

    def _clear(self, control: Connection, verdicts: Verdicts) -> list[tuple[int, str, str]]:
        """Clear signals of what is right again, and of topics that the catalog no longer has."""
        cleared: list[tuple[int, str, str]] = []
        for kind in (kind for kinds in KINDS.values() for kind in kinds):
            for topic, (signal_id, _) in open_signal_keys(control, kind).items():
                if (kind, topic) in verdicts.right or topic not in self._catalog.topics:
                    clear_signal(control, signal_id)
                    cleared.append((signal_id, kind, topic))
        return cleared

    def _tell_missing(self, missing: frozenset[str]) -> None:
        for topic in sorted(missing - self._told_missing):
            LOGGER.warning(
                "the broker has no such topic: nothing is known of its retention and landing", extra=fields(topic=topic)
            )
        self._told_missing = missing

    def _tell_suspended(self, suspended: Mapping[Watch, Suspension]) -> None:
        for watch, suspension in suspended.items():
            if self._told_suspended.get(watch) != suspension:
                LOGGER.warning(
                    "this watch is suspended and raises nothing",
                    extra=fields(watch=watch, until=suspension.until, by=suspension.by, because=suspension.because),
                )
        for watch in self._told_suspended.keys() - suspended.keys():
            LOGGER.info("this watch is no longer suspended", extra=fields(watch=watch))
        self._told_suspended = dict(suspended)
