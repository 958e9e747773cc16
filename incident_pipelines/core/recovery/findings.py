"""What a recoverability map shows before anything happens: a last copy that ages out, a source that cannot replay."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from incident_pipelines.core.recovery.coverage import KAFKA, LANDING_LOG, Coverage, Recoverability
from incident_pipelines.core.signals import Fact

ONLY_COPY_EXPIRING = "only_copy_expiring"
RECOVERY_SOURCE_UNUSABLE = "recovery_source_unusable"
KINDS = (ONLY_COPY_EXPIRING, RECOVERY_SOURCE_UNUSABLE)

EXPIRING_WITHIN = timedelta(hours=24)
"""A night and a day to bring the events to a place where they stay."""


@dataclass(frozen=True)
class Findings:
    """What was found, and what could not be decided because a source did not answer.

    Args:
        found: facts with a ``signal_key`` that tells one finding from another.
        undecided: (kind, key) of signals that stay as they are.
    """

    found: tuple[Fact, ...]
    undecided: frozenset[tuple[str, str]]


def find(
    days: Iterable[Recoverability], promises: Mapping[tuple[str, str], timedelta | None], now: datetime
) -> Findings:
    """Return what the map shows to be wrong.

    Args:
        days: the whole map.
        promises: (dataset, source) → for how long the source is said to keep events; None: for good.
        now: aware.
    """
    by_dataset: dict[str, list[Recoverability]] = {}
    for day in days:
        by_dataset.setdefault(day.dataset, []).append(day)
    found: list[Fact] = []
    undecided: set[tuple[str, str]] = set()
    for dataset, windows in by_dataset.items():
        for day in windows:
            fact = _expiring(day, now)
            if fact is None and not _answers(day):
                undecided.add((ONLY_COPY_EXPIRING, _day_key(day)))
            elif fact is not None:
                found.append(fact)
        for source in dict.fromkeys(one.source for day in windows for one in day.coverages):
            if source == LANDING_LOG:
                continue
            fact = _unusable(source, windows, promises.get((dataset, source)), now)
            if fact is not None:
                found.append(fact)
            elif not all(_comparable(day, source) for day in windows):
                undecided.add((RECOVERY_SOURCE_UNUSABLE, f"{dataset} {source}"))
    return Findings(tuple(found), frozenset(undecided))


def _expiring(day: Recoverability, now: datetime) -> Fact | None:
    """Whoever keeps the events beyond the horizon has fewer than somebody who does not."""
    lasting = [one for one in day.coverages if one.until is None or one.until > now + EXPIRING_WITHIN]
    # Who is not known to have fewer may have them all.
    if any(one.complete or one.replays is None or (one.replays and one.events is None) for one in lasting):
        return None
    kept = max((one.events or 0 for one in lasting), default=0)
    last = [one for one in day.coverages if one not in lasting and (one.events or 0) > kept]
    if not last:
        return None
    until = max(one.until for one in last if one.until is not None)
    return Fact(
        0,
        ONLY_COPY_EXPIRING,
        day.dataset,
        day.window.start,
        day.window.end,
        {
            "signal_key": _day_key(day),
            "sources": [one.source for one in last],
            "events": max(one.events or 0 for one in last) - kept,
            "until": until.astimezone(UTC).isoformat(),
            "kept_elsewhere": kept,
        },
        now,
    )


def _unusable(source: str, days: Sequence[Recoverability], promise: timedelta | None, now: datetime) -> Fact | None:
    short: list[tuple[Recoverability, Coverage, int]] = []
    for day in days:
        one = day.of(source)
        if one is None or one.replays is None:
            continue
        if one.broken:
            return _fact(source, day.dataset, None, None, one.reason, None, now)
        owed = _owed(day, source)
        promised = promise is None or day.window.start >= now - promise
        if day.settled and promised and one.events is not None and one.events < owed:
            short.append((day, one, owed - one.events))
    if not short:
        return None
    first, last = short[0][0], short[-1][0]
    reason = next((one.reason for _, one, _ in short if one.reason), "it has fewer events than others")
    missing = sum(number for _, _, number in short)
    return _fact(source, first.dataset, first.window.start, last.window.end, reason, missing, now)


def _fact(
    source: str,
    dataset: str,
    start: datetime | None,
    end: datetime | None,
    reason: str,
    missing: int | None,
    now: datetime,
) -> Fact:
    detail = {"signal_key": f"{dataset} {source}", "source": source, "reason": reason, "missing": missing}
    return Fact(0, RECOVERY_SOURCE_UNUSABLE, dataset, start, end, detail, now)


def _owed(day: Recoverability, source: str) -> int:
    """How many events a source has to have: Kafka those that came by it, others those that anybody has."""
    if source == KAFKA:
        landed = day.of(LANDING_LOG)
        return (landed.from_topics or 0) if landed else 0
    return day.most or 0


def _answers(day: Recoverability) -> bool:
    return all(one.replays is not None for one in day.coverages)


def _comparable(day: Recoverability, source: str) -> bool:
    """Whether the source answered, and whoever says how much it must have."""
    asked = (day.of(source), day.of(LANDING_LOG))
    return all(one is None or one.replays is not None for one in asked)


def _day_key(day: Recoverability) -> str:
    return f"{day.dataset} {day.window.start.astimezone(UTC):%Y-%m-%d}"
