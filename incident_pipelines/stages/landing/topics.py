"""The catalog's topics as they are at the broker, and changing how long one keeps its records."""

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.adapters.stores.topic_changes import finish_topic_change, intend_topic_change
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.landing_watch import LANDING, RETENTION_SHARE
from incident_pipelines.core.retention import (
    Floor,
    TopicSettings,
    below_floor,
    duration_text,
    floor_of,
)
from incident_pipelines.stages.landing.retention import TopicCommandRefused, worst_lags
from incident_pipelines.stages.landing.topic_readers import TopicReaders, contract_days

OWNER = "incident-pipelines topics"
Verdict = Literal["ok", "below floor", "lag past half of retention", "missing"]


@dataclass(frozen=True)
class TopicRow:
    """One topic of the catalog.

    Args:
        consumers: that the contract names.
        groups: consumer groups that have read it, without landing's own.
        settings: None where the broker has no such topic.
        floor: None if nobody asks for anything.
        lag: offsets that landing has still to read, at most.
        lag_time: how old the next record to be landed is.
    """

    topic: str
    contract: str
    owner: str
    consumers: tuple[str, ...]
    groups: tuple[str, ...]
    settings: TopicSettings | None
    floor: Floor | None
    lag: int
    lag_time: timedelta

    @property
    def verdict(self) -> Verdict:
        """What a person has to look at first."""
        if self.settings is None:
            return "missing"
        if below_floor(self.settings, self.floor):
            return "below floor"
        limit = timedelta(milliseconds=self.settings.retention_ms) * RETENTION_SHARE
        return "lag past half of retention" if self.settings.drops_by_age and self.lag_time > limit else "ok"

    @property
    def notes(self) -> tuple[str, ...]:
        """What retention by age does not say."""
        if self.settings is None:
            return ("the broker has no such topic",)
        notes: list[str] = []
        if self.settings.drops_by_size:
            notes.append(f"retention.bytes is {self.settings.retention_bytes}: records may go before their time")
        if "compact" in self.settings.cleanup_policy:
            notes.append("compacted: older records of a key go whatever their age")
        return tuple(notes)


def topic_rows(environment: Mapping[str, str], catalog: Catalog, now: datetime) -> list[TopicRow]:
    """Return the catalog's topics, by name.

    Args:
        environment: KAFKA_BOOTSTRAP_SERVERS and WAREHOUSE_URL.
        now: aware.

    Raises:
        SourceUnavailable: broker or warehouse do not answer.
    """
    warehouse = postgres_engine(environment["WAREHOUSE_URL"], OWNER, pool_size=1)
    try:
        with closing(TopicReaders(catalog, Topics(environment["KAFKA_BOOTSTRAP_SERVERS"]), warehouse)) as readers:
            seen = readers.look(now)
    finally:
        warehouse.dispose()
    rows: list[TopicRow] = []
    for topic, contract in sorted(catalog.topics.items()):
        landing = [one for one in seen.positions if (one.reader, one.topic) == (LANDING, topic)]
        lags = worst_lags(seen.positions, topic)
        rows.append(
            TopicRow(
                topic=topic,
                contract=contract.name,
                owner=contract.owner,
                consumers=contract.consumers,
                groups=tuple(sorted(lags.keys() - {LANDING})),
                settings=seen.settings.get(topic),
                floor=floor_of(contract_days(catalog, topic), lags),
                lag=sum(one.lag for one in landing),
                lag_time=max((one.lag_time for one in landing), default=timedelta(0)),
            )
        )
    return rows


def refusal(row: TopicRow, retention_ms: int, acknowledged: Collection[str]) -> str | None:
    """Return why a topic must not get a retention; None if it may.

    Args:
        acknowledged: consumers who are said to agree.
    """
    if row.settings is None:
        return f"topic {row.topic} does not exist at the broker"
    wanted = TopicSettings(row.topic, retention_ms, row.settings.retention_bytes, True, row.settings.cleanup_policy)
    if row.floor is not None and below_floor(wanted, row.floor):
        return (
            f"topic {row.topic} has to keep its records for {duration_text(row.floor.milliseconds)} "
            f"({row.floor.reason}): {duration_text(retention_ms)} is below that"
        )
    unknown = sorted(set(acknowledged) - set(row.consumers))
    if unknown:
        return f"{', '.join(unknown)} is no consumer of {row.topic}; these are: {', '.join(row.consumers) or 'none'}"
    missing = [name for name in row.consumers if name not in acknowledged]
    if missing:
        options = " ".join(f"--acknowledge {_quoted(name)}" for name in missing)
        return f"{', '.join(missing)} has to agree to another retention of {row.topic}: ask them, then add {options}"
    return None


def apply_retention(
    environment: Mapping[str, str],
    row: TopicRow,
    retention_ms: int,
    acknowledged: Collection[str],
    by: str,
    now: datetime,
) -> int | None:
    """Give a topic a retention, and record who did.

    Args:
        environment: KAFKA_BOOTSTRAP_SERVERS and CONTROL_DATABASE_URL.
        row: the topic as it was looked at just now.
        retention_ms: -1: unlimited.
        acknowledged: consumers who are said to agree.

    Returns:
        The number of the recorded change; None if the topic has this retention already.

    Raises:
        TopicCommandRefused: it is below the floor, or somebody was not asked; nothing was changed.
        SourceUnavailable: broker or control database do not answer.
    """
    why = refusal(row, retention_ms, acknowledged)
    if why is not None or row.settings is None:
        raise TopicCommandRefused(why or "")
    if row.settings.overridden and row.settings.retention_ms == retention_ms:
        return None
    control = postgres_engine(environment["CONTROL_DATABASE_URL"], OWNER, pool_size=1)
    try:
        with available("control database"), control.begin() as connection:
            change_id = intend_topic_change(
                connection, row.topic, row.settings.retention_ms, retention_ms, sorted(acknowledged), by, now
            )
        failure: str | None = None
        try:
            with closing(Topics(environment["KAFKA_BOOTSTRAP_SERVERS"])) as topics:
                topics.set_retention(row.topic, retention_ms)
        except SourceUnavailable as error:
            failure = str(error)
            raise
        finally:
            with available("control database"), control.begin() as connection:
                finish_topic_change(connection, change_id, failure)
    finally:
        control.dispose()
    return change_id


def _quoted(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else f"'{name}'"
