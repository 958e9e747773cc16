"""What a run of looks at topics and their readers shows: stuck, falling behind, too close to what is deleted.

No verdict rests on a threshold of offsets: no lag is fine, lag while nothing moves is an error, lag that never falls
although offsets move is a warning.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from incident_pipelines.core.retention import Floor, TopicSettings, below_floor, floor_of

RETENTION_BELOW_FLOOR = "retention_below_floor"
LANDING_STALLED = "landing_stalled"
LAG_RISING = "landing_lag_rising"
LAG_NEAR_RETENTION = "landing_lag_near_retention"

LANDING = "landing"
"""The reader whose offsets are the log's own; all others are consumer groups."""

EVERY = timedelta(seconds=5)
STALLED_AFTER = timedelta(seconds=30)
WAITS_ITS_TURN = timedelta(minutes=2)
"""A partition may stand still for so long while its lander reads others: a backlog is not read evenly."""

RISING_OVER = timedelta(minutes=10)
LONGEST_GAP = timedelta(seconds=20)
"""Looks that are further apart prove nothing of the time between them; what was known before is forgotten."""

SETTLED_AFTER = timedelta(seconds=30)
"""A lag counts against retention as the smallest of so long: one batch of old records is no lag."""

RETENTION_SHARE = 0.5
"""More of the retention than that must not be used up by the lag (SPEC §6)."""

Watch = Literal["retention", "landing"]
WATCHES: tuple[Watch, ...] = ("retention", "landing")
KINDS: Mapping[Watch, tuple[str, ...]] = {
    "retention": (RETENTION_BELOW_FLOOR,),
    "landing": (LANDING_STALLED, LAG_RISING, LAG_NEAR_RETENTION),
}
"""Kinds of signals, by the watch that raises and clears them."""

Condition = Literal["idle", "moving", "stalled", "unknown"]


@dataclass(frozen=True)
class Position:
    """Where a reader of a partition was at one moment.

    Args:
        reader: `LANDING`, or a consumer group.
        next: offset of the first record it has not read.
        log_end: offset that the next record will get; transactions that are open do not count.
        unread_at: broker's time of the first record it has not read; None where there is none, or it is not known.
        stopped: it was stopped for a reason that is a signal already.
        owner: which member of the reader had the partition last.
    """

    reader: str
    topic: str
    partition: int
    at: datetime
    next: int
    log_end: int
    unread_at: datetime | None = None
    stopped: bool = False
    owner: str = ""

    @property
    def lag(self) -> int:
        """Offsets to come; an upper bound of the records."""
        return max(self.log_end - self.next, 0)

    @property
    def lag_time(self) -> timedelta:
        """How old the next unread record is; nothing where there is none or its time is not known."""
        if self.lag == 0 or self.unread_at is None:
            return timedelta(0)
        return max(self.at - self.unread_at, timedelta(0))


Reader = tuple[str, str, int]
"""(reader, topic, partition)."""

History = Mapping[Reader, tuple[Position, ...]]
"""What was seen of each reader, in order of time, without a gap."""


def remembered(history: History, seen: Iterable[Position]) -> dict[Reader, tuple[Position, ...]]:
    """Return the history with one more look; a reader that was not seen is forgotten.

    Args:
        seen: one position for each reader of each partition.
    """
    after: dict[Reader, tuple[Position, ...]] = {}
    for position in seen:
        key = (position.reader, position.topic, position.partition)
        before = history.get(key, ())
        if before and not timedelta(0) < position.at - before[-1].at <= LONGEST_GAP:
            before = ()
        if before and position.next < before[-1].next:  # resumed from an earlier offset, or another topic
            before = ()
        oldest = position.at - RISING_OVER - timedelta(minutes=1)
        after[key] = (*(one for one in before if one.at >= oldest), position)
    return after


def at_work(history: History) -> frozenset[str]:
    """Return the owners that have moved in some partition of some topic within `STALLED_AFTER`."""
    return frozenset(seen[-1].owner for seen in history.values() if _moved(seen, STALLED_AFTER))


def condition(seen: Sequence[Position], working: Collection[str] = ()) -> Condition:
    """Return what one reader of one partition does.

    Args:
        working: owners that move elsewhere; a partition of theirs may wait its turn.

    Returns:
        ``idle``: nothing is to be read, or it was stopped for a known reason. ``stalled``: there was something to read
        for `STALLED_AFTER`, or `WAITS_ITS_TURN`, and nothing was. ``unknown``: seen for too short a time, or waiting.
    """
    last = seen[-1]
    if last.lag == 0 or last.stopped:
        return "idle"
    stuck = _stuck(seen)
    since = last.at - stuck[0].at
    if since >= (WAITS_ITS_TURN if last.owner in working else STALLED_AFTER):
        return "stalled"
    return "moving" if len(stuck) < len(seen) and since < STALLED_AFTER else "unknown"


def stuck_since(seen: Sequence[Position]) -> datetime:
    """Return since when a reader has had something to read and has not moved."""
    return _stuck(seen)[0].at


def lag_rises(seen: Sequence[Position]) -> bool:
    """Whether offsets move, and there was a lag all of `RISING_OVER` that did not fall once.

    The smallest lag of each minute counts: a reader that keeps up reaches the end now and then.
    """
    last = seen[-1]
    since = last.at - RISING_OVER
    if last.stopped or seen[0].at > since or not _moved(seen, timedelta(minutes=1)):
        return False
    minutes: dict[int, int] = {}
    for one in (one for one in seen if one.at > since):
        minute = (last.at - one.at) // timedelta(minutes=1)
        minutes[minute] = min(minutes.get(minute, one.lag), one.lag)
    smallest = [minutes[minute] for minute in sorted(minutes, reverse=True)]
    return smallest[-1] > smallest[0] > 0 and all(before <= after for before, after in pairwise(smallest))


def settled_lag(seen: Sequence[Position]) -> timedelta:
    """Return the smallest lag in time of the last `SETTLED_AFTER`; nothing if it was not seen for so long."""
    last = seen[-1]
    recent = [one for one in seen if one.at >= last.at - SETTLED_AFTER]
    if len(recent) == len(seen) and last.at - seen[0].at < SETTLED_AFTER:
        return timedelta(0)
    return min(one.lag_time for one in recent)


@dataclass(frozen=True)
class Finding:
    """What a rule found of a topic.

    Args:
        since: aware.
    """

    kind: str
    topic: str
    since: datetime
    detail: Mapping[str, object]


@dataclass(frozen=True)
class Verdicts:
    """What is wrong, and what is known to be right; of everything else nothing is known.

    Args:
        right: (kind, topic).
    """

    wrong: tuple[Finding, ...]
    right: frozenset[tuple[str, str]]


def topic_lags(topic: str, history: History) -> dict[str, timedelta]:
    """Return how far each reader of a topic is behind, in its worst partition."""
    lags: dict[str, timedelta] = {}
    for (reader, of, _), seen in history.items():
        if of == topic and not (reader == LANDING and seen[-1].stopped):
            lags[reader] = max(lags.get(reader, timedelta(0)), settled_lag(seen))
    return lags


def judge_retention(
    settings: TopicSettings, contract_days: int | None, history: History, now: datetime, all_readers: bool = True
) -> Verdicts:
    """Compare a topic's retention with its floor.

    Args:
        contract_days: None: the contract asks for nothing.
        all_readers: False where the history may lack somebody: then nothing is known to be right.
    """
    floor = floor_of(contract_days, topic_lags(settings.topic, history))
    if floor is not None and below_floor(settings, floor):
        return Verdicts((_short(settings, floor, now),), frozenset())
    of_topic = [seen for (_, of, _), seen in history.items() if of == settings.topic]
    settled = all_readers and all(seen[-1].lag == 0 or _seen_over(seen, SETTLED_AFTER) for seen in of_topic)
    known = settled or not settings.drops_by_age
    return Verdicts((), frozenset({(RETENTION_BELOW_FLOOR, settings.topic)} if known else ()))


def judge_landing(topic: str, settings: TopicSettings | None, history: History) -> Verdicts:
    """Judge how landing of a topic is doing.

    Args:
        settings: None where they are not known.
    """
    landing = {n: seen for (reader, of, n), seen in history.items() if (reader, of) == (LANDING, topic)}
    if not landing:
        return Verdicts((), frozenset())
    wrong: list[Finding] = []
    right: set[str] = set()
    working = at_work(history)
    conditions = {number: condition(seen, working) for number, seen in landing.items()}
    stalled = sorted(number for number, found in conditions.items() if found == "stalled")
    if stalled:
        since = min(stuck_since(landing[number]) for number in stalled)
        wrong.append(Finding(LANDING_STALLED, topic, since, _lag_detail(topic, landing, stalled, since)))
    elif all(found in ("idle", "moving") for found in conditions.values()):
        right.add(LANDING_STALLED)
    rising = sorted(number for number, seen in landing.items() if lag_rises(seen))
    if rising:
        since = min(landing[number][-1].at for number in rising) - RISING_OVER
        wrong.append(Finding(LAG_RISING, topic, since, _lag_detail(topic, landing, rising, since)))
    elif all(seen[-1].lag == 0 or seen[-1].stopped or _seen_over(seen, RISING_OVER) for seen in landing.values()):
        right.add(LAG_RISING)
    if settings is not None:
        limit = timedelta(milliseconds=settings.retention_ms) * RETENTION_SHARE
        behind = sorted(
            number
            for number, seen in landing.items()
            if settings.drops_by_age and not seen[-1].stopped and settled_lag(seen) > limit
        )
        if behind:
            since = min(landing[number][-1].at for number in behind)
            detail = {"retention_ms": settings.retention_ms, **_lag_detail(topic, landing, behind, since)}
            wrong.append(Finding(LAG_NEAR_RETENTION, topic, since, detail))
        elif all(seen[-1].lag == 0 or _seen_over(seen, SETTLED_AFTER) for seen in landing.values()):
            right.add(LAG_NEAR_RETENTION)
    return Verdicts(tuple(wrong), frozenset((kind, topic) for kind in right))


def _short(settings: TopicSettings, floor: Floor, now: datetime) -> Finding:
    floors = {"floor_ms": floor.milliseconds, "floor_reason": floor.reason}
    detail = {"topic": settings.topic, "retention_ms": settings.retention_ms, **floors}
    return Finding(RETENTION_BELOW_FLOOR, settings.topic, now, detail)


def _lag_detail(
    topic: str, landing: Mapping[int, Sequence[Position]], partitions: Sequence[int], since: datetime
) -> dict[str, object]:
    last = [landing[number][-1] for number in partitions]
    return {
        "topic": topic,
        "partitions": list(partitions),
        "lag": sum(one.lag for one in last),
        "lag_seconds": round(max(one.lag_time for one in last).total_seconds()),
        "next_offsets": {str(one.partition): one.next for one in last},
        "since": since.isoformat(),
    }


def _stuck(seen: Sequence[Position]) -> Sequence[Position]:
    """The last looks at which there was something to read and the same to read next."""
    last = seen[-1]
    first = len(seen) - 1
    while first > 0 and seen[first - 1].next == last.next and seen[first - 1].lag > 0:
        first -= 1
    return seen[first:]


def _moved(seen: Sequence[Position], duration: timedelta) -> bool:
    last = seen[-1]
    return any(one.next != last.next for one in seen if one.at >= last.at - duration)


def _seen_over(seen: Sequence[Position], duration: timedelta) -> bool:
    return seen[-1].at - seen[0].at >= duration
