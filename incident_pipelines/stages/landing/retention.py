"""Puts the retention of a topic back to its floor, where it is below."""

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.kafka.topics import Topics
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.topic_retentions import remembered_retention
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.core.landing_watch import Position
from incident_pipelines.core.retention import Floor, TopicSettings, floor_of, put_back
from incident_pipelines.stages.landing.topic_readers import TopicReaders, contract_days

LOGGER = logging.getLogger(__name__)


class TopicCommandRefused(IncidentPipelinesError):
    """What was asked for would break a promise, or names what there is not; nothing was changed."""


@dataclass(frozen=True)
class RestoredRetention:
    """What was done to a topic.

    Args:
        before_ms, after_ms: equal where nothing had to be done; -1: unlimited.
        floor: what it was measured by; None if nobody asks for anything.
    """

    topic: str
    before_ms: int
    after_ms: int
    floor: Floor | None


def restore_retention(environment: Mapping[str, str], catalog: Catalog, topic: str) -> RestoredRetention:
    """Put a topic's retention back if it is below its floor; never shorten it, and change nothing else.

    It gets what it had when nothing was wrong with it, and where nobody knows that, the floor.

    The floor is the contract's, or twice the lag of whoever is furthest behind, and in that case twice that again, so
    that a lag which grows is not below it at once. Where readers cannot be looked at, the contract's alone counts.

    Args:
        environment: KAFKA_BOOTSTRAP_SERVERS and WAREHOUSE_URL, and CONTROL_DATABASE_URL, which remembers.

    Raises:
        TopicCommandRefused: the catalog has no such topic, or the broker has none.
        SourceUnavailable: the broker does not answer or refuses.
    """
    if topic not in catalog.topics:
        raise TopicCommandRefused(f"no contract reads topic {topic!r}; one of {', '.join(sorted(catalog.topics))}")
    with closing(Topics(environment["KAFKA_BOOTSTRAP_SERVERS"])) as topics:
        settings = topics.settings([topic]).get(topic)
        if settings is None:
            raise TopicCommandRefused(f"topic {topic} does not exist at the broker")
        floor = floor_of(contract_days(catalog, topic), _lags(environment, catalog, settings))
        wanted = put_back(settings, floor, _known(environment, topic))
        if wanted != settings.retention_ms:
            topics.set_retention(topic, wanted)
            LOGGER.warning(
                "retention put back",
                extra=fields(
                    topic=topic, before_ms=settings.retention_ms, after_ms=wanted, reason=floor and floor.reason
                ),
            )
    return RestoredRetention(topic, settings.retention_ms, wanted, floor)


def worst_lags(positions: tuple[Position, ...], topic: str) -> dict[str, timedelta]:
    """Return how far each reader of a topic is behind now, in its worst partition."""
    lags: dict[str, timedelta] = {}
    for one in positions:
        if one.topic == topic and not one.stopped:
            lags[one.reader] = max(lags.get(one.reader, timedelta(0)), one.lag_time)
    return lags


def _known(environment: Mapping[str, str], topic: str) -> int | None:
    url = environment.get("CONTROL_DATABASE_URL")
    if not url:
        return None
    control = postgres_engine(url, "incident-pipelines retention", pool_size=1)
    try:
        with available("control database"), control.connect() as connection:
            return remembered_retention(connection, topic)
    except SourceUnavailable as error:
        LOGGER.warning(
            "what the retention was is not known: only its floor counts", extra=fields(topic=topic, cause=str(error))
        )
        return None
    finally:
        control.dispose()


def _lags(environment: Mapping[str, str], catalog: Catalog, settings: TopicSettings) -> dict[str, timedelta]:
    warehouse = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines retention", pool_size=1)
    try:
        with closing(TopicReaders(catalog, Topics(environment["KAFKA_BOOTSTRAP_SERVERS"]), warehouse)) as readers:
            return worst_lags(readers.look(datetime.now(UTC), [settings.topic]).positions, settings.topic)
    except SourceUnavailable as error:
        LOGGER.warning(
            "readers cannot be looked at: only the contract's floor counts",
            extra=fields(topic=settings.topic, cause=str(error)),
        )
        return {}
    finally:
        warehouse.dispose()
