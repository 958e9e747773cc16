"""What really happened, by the ground-truth ledger, against what the warehouse and the loss statement say.

The ledger says which events their destinations acknowledged; what an event of an outbox said is read from there, by
its id: the producer's own copy, which no fault of a game day touches. Both meet in a database of their own,
`ground_truth`, in which no role of the system may connect.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import psycopg
from psycopg import sql

from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.gameday.drill import Drill
from incident_pipelines.example.gameday.scenario import Fault
from incident_pipelines.example.gameday.true_marts import Ids, differing_marts
from incident_pipelines.example.records import GroundTruth

HORIZON = timedelta(days=14)
ON_ITS_WAY = timedelta(minutes=20)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is left after a game day, by the truth.

    Args:
        affected, recovered, unrecoverable: events that the fault touched, of these those that are back, and not.
        duplicates: events that stand more than once in a raw table.
        differences: what is not as the truth has it, each in one line: must be empty.
        count: of single differences.
    """

    affected: int
    recovered: int
    unrecoverable: int
    unknown: int
    duplicates: int
    differences: tuple[str, ...]
    count: int


@dataclass
class _Differences:
    lines: list[str] = field(default_factory=list[str])
    count: int = 0

    def add(self, number: int, line: str) -> None:
        if number:
            self.count += number
            self.lines.append(line)


@dataclass(frozen=True)
class Before:
    """What was so already when a game day began.

    Args:
        gone: events that an earlier fault has lost, by dataset: they stay lost, and may be stated again.
        losses: loss statements that there were, by incident.
    """

    gone: Mapping[str, Ids] = field(default_factory=dict[str, Ids])
    losses: Mapping[str, LossStatement] = field(default_factory=dict[str, LossStatement])


def gone_before(drill: Drill) -> dict[str, Ids]:
    """Return the events that are gone already, by dataset; what is younger than `ON_ITS_WAY` may still come."""
    now = drill.now()
    span = TimeWindow(max(drill.catalog.start, now - HORIZON), now - ON_ITS_WAY)
    true = _acknowledged(drill, span)
    with drill.warehouse() as connection:
        return {name: true[name] - frozenset(_raw_ids(connection, drill, name, span)) for name in _events(drill)}


def compare(
    drill: Drill, fault: Fault, before: Before, loss: LossStatement | None, others: Sequence[LossStatement] = ()
) -> Verdict:
    """Compare raw events, marts and the loss statement with the truth; the service should rest.

    Args:
        before: what was so already.
        loss: None where the incident has no loss statement.
        others: of further incidents that brought events back meanwhile.
    """
    span = TimeWindow(fault.span.start, max(drill.now(), fault.over_at))
    found = _Differences()
    true = _acknowledged(drill, span)
    events = _events(drill)
    raw: dict[str, Ids] = {}
    affected: dict[str, Ids] = {}
    duplicates = 0
    with drill.warehouse() as connection:
        for name in events:
            rows = _raw_ids(connection, drill, name, span)
            raw[name] = frozenset(rows)
            duplicates += len(rows) - len(raw[name])
            touched = frozenset(fault.affected.get(name, frozenset()))
            affected[name] = touched - _landed_from_topic(connection, name) if fault.aged_out else touched
    for name in events:
        missing, unexpected = true[name] - raw[name], raw[name] - true[name]
        excused = before.gone.get(name, frozenset()) | (affected[name] if name in fault.loses else frozenset())
        found.add(len(missing - excused), f"raw.{name}: {len(missing - excused):,} events are missing")
        found.add(len(unexpected), f"raw.{name}: {len(unexpected):,} events were never acknowledged")
        lost, back = len(affected[name] - raw[name]), len(affected[name] & raw[name])
        found.add(*stated_otherwise(name, loss, lost, back, fault, before, others))
        found.add(*copies_unstated(name, loss, fault))
    found.add(fault.seen_wrong, f"readers saw {fault.seen_wrong:,} wrong rows while the fault lasted")
    known: dict[str, Ids] = {}
    for name in events:
        gone = before.gone.get(name, frozenset[bytes]())
        if name in fault.loses:
            gone |= affected[name]
        known[name] = true[name] - (gone - raw[name])
    for mart, day, differing in differing_marts(drill, known, span):
        found.add(differing, f"marts.{mart} {day:%Y-%m-%d}: {differing:,} rows are not those of the truth")
    return Verdict(
        affected=sum(map(len, affected.values())),
        recovered=sum(len(affected[name] & raw[name]) for name in events),
        unrecoverable=sum(len(affected[name] - raw[name]) for name in events),
        unknown=0 if loss is None else (loss.unknown_at_most or 0),
        duplicates=duplicates,
        differences=tuple(found.lines),
        count=found.count,
    )


def stated_otherwise(
    name: str,
    loss: LossStatement | None,
    gone: int,
    back: int,
    fault: Fault,
    before: Before,
    others: Sequence[LossStatement] = (),
) -> tuple[int, str]:
    """Compare what the loss statement says of a dataset with the truth; to the event."""
    stated = None if loss is None else next((one for one in loss.datasets if one.dataset == name), None)
    lost = 0 if stated is None else stated.unrecoverable
    if lost not in (gone, gone + len(before.gone.get(name, ()))):
        return abs(lost - gone), f"loss statement: {lost:,} events of {name} are gone for good, by the truth {gone:,}"
    if stated is not None and stated.unknown_at_most != 0:
        return 1, f"loss statement: up to {stated.unknown_at_most} events of {name} are unknown"
    # What is lost is lost once, whoever says so; each says of itself what it has brought back.
    told = [one for statement in (loss, *others) if statement for one in statement.datasets if one.dataset == name]
    earlier = [
        one
        for statement in (loss, *others)
        if statement and statement.incident_id in before.losses
        for one in before.losses[statement.incident_id].datasets
        if one.dataset == name
    ]
    recovered = sum(one.recovered for one in told) - sum(one.recovered for one in earlier)
    if fault.aged_out and recovered != back:
        return abs(recovered - back), f"loss statement: {recovered:,} events of {name} recovered, by the truth {back:,}"
    return 0, ""


def copies_unstated(name: str, loss: LossStatement | None, fault: Fault) -> tuple[int, str]:
    """Compare what the loss statement says of copies with how many were sent; there may have been others before."""
    sent = fault.copies.get(name, 0)
    told = sum(one.duplicates for one in loss.datasets if one.dataset == name) if loss else 0
    return max(0, sent - told), f"loss statement: {told:,} copies of {name} were left out, {sent:,} were sent"


def _events(drill: Drill) -> list[str]:
    return [name for name in TOPICS if isinstance(drill.catalog.landed.get(name), EventContract)]


def _acknowledged(drill: Drill, span: TimeWindow) -> dict[str, Ids]:
    """Return the ids of all events that were acknowledged, by topic and by their own time."""
    ledger = GroundTruth(drill.settings.folder, durable=False)
    start, end = (int(moment.timestamp() * 1_000_000) for moment in (span.start, span.end))
    ids: dict[str, set[bytes]] = defaultdict(set)
    for day in ledger.days():
        if f"{span.start:%Y-%m-%d}" <= day <= f"{span.end:%Y-%m-%d}":
            for event in ledger.read(day):
                if start <= event.time_us < end:
                    ids[event.topic].add(bytes.fromhex(event.event_id.replace("-", "")))
    return {topic: frozenset(ids[topic]) for topic in TOPICS}


def _raw_ids(connection: psycopg.Connection, drill: Drill, name: str, span: TimeWindow) -> list[bytes]:
    contract = drill.catalog.landed[name]
    assert isinstance(contract, EventContract)
    query = sql.SQL("SELECT {id} FROM raw.{table} WHERE {time} >= %s AND {time} < %s").format(
        id=sql.Identifier(contract.event_id), table=sql.Identifier(name), time=sql.Identifier(contract.event_time)
    )
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query, (span.start, span.end))
        return [row[0].bytes for row in cursor]


def _landed_from_topic(connection: psycopg.Connection, name: str) -> Ids:
    """Return the ids of events that a lander read from a topic; what came another way was brought back."""
    query = sql.SQL(
        "SELECT DISTINCT l.event_id FROM landing.{} l JOIN landing.origins o USING (origin_id) WHERE o.kind = 'topic'"
    ).format(sql.Identifier(name))
    rows = connection.execute(query).fetchall()
    return frozenset(UUID(event_id).bytes for (event_id,) in rows if event_id is not None)
