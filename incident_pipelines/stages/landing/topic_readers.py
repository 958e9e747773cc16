"""Who reads the catalog's topics and how far: landing by the log's offsets, everybody else by their group's."""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.kafka.consumer import OffsetBounds
from incident_pipelines.adapters.kafka.topics import Place, Topics
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.landing_offsets import StoredOffset, landing_offsets
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.landing_watch import LANDING, Position
from incident_pipelines.core.retention import TopicSettings
from incident_pipelines.stages.landing.land import GROUP

LOGGER = logging.getLogger(__name__)

GROUPS_EVERY_SECONDS = 60.0
"""How often all groups are asked whether they read these topics; those that do are asked every time."""

FUTURE = timedelta(minutes=5)
"""A record's time that lies further ahead, or before the catalog's start, says nothing (SPEC §2)."""


@dataclass(frozen=True)
class TopicsSeen:
    """One look at the catalog's topics.

    Args:
        settings: of those that exist.
        positions: of everybody who reads them; left out where offsets belong to a former incarnation of a topic.
        missing: topics of the catalog that the broker does not have.
        groups_known: False where the broker did not tell who else reads: positions are landing's alone.
    """

    settings: Mapping[str, TopicSettings]
    positions: tuple[Position, ...]
    missing: frozenset[str]
    groups_known: bool


class TopicReaders:
    """Looks at topics and their readers; for one thread.

    Args:
        topics: closed with it.
        warehouse: engine; the log's offsets are in it.
    """

    def __init__(self, catalog: Catalog, topics: Topics, warehouse: Engine) -> None:
        self._catalog = catalog
        self._topics = topics
        self._warehouse = warehouse
        self._groups: list[str] = []
        self._groups_asked = float("-inf")
        self._told_groups = False
        self._written: dict[tuple[str, Place, int], datetime | None] = {}

    def look(self, now: datetime, only: Collection[str] | None = None) -> TopicsSeen:
        """Look at all topics of the catalog.

        Args:
            now: aware.
            only: some of them.

        Raises:
            SourceUnavailable: broker or warehouse do not answer; nothing is known then. That of groups nothing is
                known, as just after a broker's start, is no reason to know nothing of landing.
        """
        names = [name for name in self._catalog.topics if only is None or name in only]
        described = self._topics.described(names)
        settings = self._topics.settings(described)
        places = [(name, number) for name, topic in described.items() for number in topic.partitions]
        # Readers first, ends after: one that keeps up is never seen beyond the end.
        stored = self._landed()
        groups = self._read_by_groups(described)
        bounds = self._topics.bounds(places)
        next_offsets: dict[tuple[str, Place], int] = {}
        stopped: set[Place] = set()
        for place, held in bounds.items():
            # What was never landed has its first record still to come.
            landed = stored.get(place) or StoredOffset(held.start, False, described[place[0]].topic_id)
            if landed.stopped:
                stopped.add(place)
            elif landed.topic_id != described[place[0]].topic_id:
                continue
            next_offsets[LANDING, place] = landed.next
        for group, offsets in (groups or {}).items():
            next_offsets |= {(group, place): offset for place, offset in offsets.items() if place in bounds}
        ids = {name: topic.topic_id for name, topic in described.items()}
        unread = self._unread({key: (at, bounds[key[1]]) for key, at in next_offsets.items()}, ids, now)
        positions = tuple(
            Position(
                reader=reader,
                topic=place[0],
                partition=place[1],
                at=now,
                next=offset,
                log_end=bounds[place].end,
                unread_at=unread.get((reader, place)),
                stopped=reader == LANDING and place in stopped,
                owner=stored[place].owner if reader == LANDING and place in stored else reader,
            )
            for (reader, place), offset in next_offsets.items()
        )
        return TopicsSeen(settings, positions, frozenset(names) - described.keys(), groups is not None)

    def close(self) -> None:
        """Close the connections to the broker; the warehouse's are whoever's gave them."""
        self._topics.close()

    def _landed(self) -> dict[Place, StoredOffset]:
        with available("warehouse"), self._warehouse.connect() as connection:
            return landing_offsets(connection)

    def _read_by_groups(self, topics: Collection[str]) -> dict[str, dict[Place, int]] | None:
        known, asked = self._groups, self._groups_asked
        try:
            if time.monotonic() - asked >= GROUPS_EVERY_SECONDS:
                # The lander's own group is for others to look at; the log's offsets count.
                known, asked = [group for group in self._topics.groups() if group != GROUP], time.monotonic()
            found = self._topics.group_offsets(topics, known)
        except SourceUnavailable as error:
            if not self._told_groups:
                LOGGER.warning("consumer groups cannot be looked at now", extra=fields(cause=str(error)))
            self._told_groups = True
            return None
        self._groups, self._groups_asked, self._told_groups = sorted(found), asked, False
        return found

    def _unread(
        self, readers: Mapping[tuple[str, Place], tuple[int, OffsetBounds]], topic_ids: Mapping[str, str], now: datetime
    ) -> dict[tuple[str, Place], datetime | None]:
        """Return when the next unread record of each reader was written; each record is asked for once."""
        behind = {
            (reader, place): max(offset, held.start)
            for (reader, place), (offset, held) in readers.items()
            if offset < held.end
        }
        written: dict[tuple[str, Place, int], datetime | None] = {}
        left: dict[Place, set[int]] = {}
        for (_, place), offset in behind.items():
            key = (topic_ids[place[0]], place, offset)
            if self._written.get(key) is not None:
                written[key] = self._written[key]
            else:
                left.setdefault(place, set()).add(offset)
        while left:  # one offset of each partition at a time
            asked = {place: offsets.pop() for place, offsets in left.items()}
            found = self._topics.written_at(asked)
            written |= {(topic_ids[place[0]], place, asked[place]): at for place, at in found.items()}
            left = {place: offsets for place, offsets in left.items() if offsets}
        self._written = written
        return {
            (reader, place): self._believed(written.get((topic_ids[place[0]], place, offset)), now)
            for (reader, place), offset in behind.items()
        }

    def _believed(self, at: datetime | None, now: datetime) -> datetime | None:
        return at if at is not None and self._catalog.start <= at <= now + FUTURE else None


def contract_days(catalog: Catalog, topic: str) -> int | None:
    """Return the days that the contract of a topic asks its records to be kept; None if it does not say."""
    match catalog.topics[topic]:
        case EventContract(retention_days=days):
            return days
        case _:
            return None
