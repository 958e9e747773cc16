"""A case as a person reads it: each place in the order data takes, the delay between them, and a verdict."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from incident_pipelines.core.case import Case, LogRow, Record, SourceRow, Window, same_key
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract, EventContract, RowsContract, TableSource
from incident_pipelines.core.masking import masked_key, masked_message, masked_row, printable
from incident_pipelines.core.windows import TimeWindow

Stage = Literal["source", "kafka", "landing", "quarantine", "raw", "marts"]
STAGES: tuple[Stage, ...] = ("source", "kafka", "landing", "quarantine", "raw", "marts")


@dataclass(frozen=True)
class Sighting:
    """The case in one place.

    Args:
        at: when it happened there, or came there.
        delay_seconds: since the stage before; None where that is not known.
        delay_is_bound: a window remembers its latest build only: the first may have been sooner.
        values: personal data masked.
        problem: why it does not go on from here; None if it does.
    """

    stage: Stage
    dataset: str
    place: str
    at: datetime | None
    type: str | None
    status: str
    delay_seconds: float | None = None
    delay_is_bound: bool = False
    values: object = None
    problem: str | None = None


@dataclass(frozen=True)
class Trace:
    """What a case's way looks like.

    Args:
        complete: everything that was found has reached every place it belongs to, and every place could be looked at.
        sightings: in the order data takes.
        unavailable: what could not be looked at, and why.
    """

    correlation_id: str
    found: bool
    complete: bool
    verdict: str
    sightings: tuple[Sighting, ...]
    unavailable: dict[str, str]
    notes: tuple[str, ...]


def trace_of(case: Case, catalog: Catalog) -> Trace:
    """Return what a case's way looks like."""
    reader = _CaseReader(case, catalog)
    sightings = sorted(
        reader.sightings(), key=lambda s: (STAGES.index(s.stage), s.at or datetime.max.replace(tzinfo=UTC))
    )
    problems = list(dict.fromkeys(s.problem for s in sightings if s.problem))
    problems += reader.missing_mart_rows()
    where = " -> ".join(_way(case, sightings))
    complete = case.found and not problems and not case.unavailable
    if not case.found:
        verdict = "not found in any place that could be looked at" if case.unavailable else "not found anywhere"
    elif problems:
        verdict = f"stops: {'; '.join(problems)} (way so far: {where})"
    else:
        verdict = f"complete: {where}" if complete else f"as far as it could be looked at: {where}"
    if case.unavailable:
        verdict += f"; could not look at: {', '.join(case.unavailable)}"
    return Trace(
        case.correlation_id, case.found, complete, verdict, tuple(sightings), dict(case.unavailable), tuple(case.notes)
    )


def _way(case: Case, sightings: Iterable[Sighting]) -> list[str]:
    reached = {sighting.stage: sighting for sighting in sightings}
    way: list[str] = []
    if case.source_rows:
        way.append(", ".join(dict.fromkeys(row.source for row in case.source_rows)))
    if any(row.topic for row in case.log_rows.values()):
        way.append("kafka")
    if case.log_rows:
        others = dict.fromkeys(row.kind for row in case.log_rows.values() if not row.topic and row.kind != "extract")
        way.append(f"landing ({', '.join(others)})" if others else "landing")
    if "raw" in reached:
        way.append("raw")
    marts = dict.fromkeys(row.dataset for row in case.mart_rows)
    if marts:
        way.append(", ".join(f"marts.{name}" for name in marts))
    return way


class _CaseReader:
    def __init__(self, case: Case, catalog: Catalog) -> None:
        self._case = case
        self._catalog = catalog
        self._published = {row.place for row in case.raw_rows}
        self._quarantined = {row.place: row for row in case.quarantined}
        self._warehouse_answers = "warehouse" not in case.unavailable

    def sightings(self) -> list[Sighting]:
        log = sorted(self._case.log_rows.values(), key=lambda row: (row.event_time, row.place))
        return [
            *(self._source(row) for row in self._case.source_rows),
            *(self._record(row, self._case.records.get(row.place)) for row in log if row.topic),
            *(self._landed(row) for row in log),
            *self._withheld(),
            *self._raw(),
            *self._marts(),
        ]

    def missing_mart_rows(self) -> list[str]:
        """Why a mart that must have a row of the case has none: its anchor's event is published in raw."""
        problems: list[str] = []
        there = {row.dataset for row in self._case.mart_rows}
        for name, mart in self._catalog.marts.items():
            anchor = mart.contract.anchor
            if not self._warehouse_answers or mart.contract.correlation_id is None or anchor is None or name in there:
                continue
            stream = self._catalog.landed[anchor.dataset]
            assert isinstance(stream, EventContract)
            days = [
                TimeWindow.day_of(row.values[stream.event_time]).start
                for row in self._case.raw_rows
                if row.dataset == anchor.dataset and row.values[stream.event_type] == anchor.event_type
            ]
            if days:
                window = self._case.windows.get((name, min(days)), Window())
                reason = _not_there(window, "it was published without this case")
                problems.append(f"marts.{name} has no row for its day {min(days):%Y-%m-%d}: {reason}")
        return problems

    def _source(self, row: SourceRow) -> Sighting:
        contract = self._catalog.landed[row.contract]
        landed = [
            found
            for found in self._case.log_rows.values()
            if found.contract == row.contract and found.event_id == row.key
        ]
        status, problem = "landed as it is now", None
        if not self._warehouse_answers:
            status = "current row"
        elif not landed:
            status = "not landed"
            problem = f"{row.source} {row.table} holds a row that is not landed yet (changed {_short(row.updated_at)})"
        elif all(found.value != row.image for found in landed):
            status = "changed since it was landed"
            problem = f"{row.source} {row.table} was changed after it was landed (at {_short(row.updated_at)})"
        place = f"{row.source} {row.table}"
        values = masked_message(contract, row.image)
        return Sighting("source", row.contract, place, row.at, "row", status, values=values, problem=problem)

    def _record(self, row: LogRow, record: Record | None) -> Sighting:
        contract = self._catalog.landed[row.contract]
        problem = None
        match record:
            case None:
                status = "unavailable"
            case Record(state="held", value=value) if value == row.value:
                status = "held, bytes equal"
            case Record(state="held"):
                status = "held, bytes differ"
                problem = f"{row.topic}[{row.place[2]}] offset {row.place[3]} holds other bytes than were landed"
            case Record(state="aged_out", log_start=start):
                status = f"aged out (the partition starts at {start})"
            case Record(state=state):
                status = _RECORD_STATES[state]
        delay = None if row.kafka_timestamp is None or row.reason else _seconds(row.event_time, row.kafka_timestamp)
        return Sighting(
            "kafka",
            row.contract,
            f"{row.topic}[{row.place[2]}] offset {row.place[3]}",
            row.kafka_timestamp,
            _type(row),
            status,
            delay,
            values=masked_message(contract, row.value),
            problem=problem,
        )

    def _landed(self, row: LogRow) -> Sighting:
        contract = self._catalog.landed[row.contract]
        _, origin, partition, position = row.place
        status, problem = self._fate(row)
        since = row.kafka_timestamp if row.topic else None
        if row.kind == "extract" and isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource):
            since = _stamp(masked_message(contract, row.value), contract.origin.updated_at)
        return Sighting(
            "landing",
            row.contract,
            f"landing.{row.contract} origin {origin} ({row.kind}) partition {partition} position {position}",
            row.landed_at,
            _type(row),
            status,
            None if since is None else _seconds(since, row.landed_at),
            values=masked_message(contract, row.value),
            problem=problem,
        )

    def _fate(self, row: LogRow) -> tuple[str, str | None]:
        """What became of a row of the log, and the problem with it if it belongs into raw and is not there."""
        contract = self._catalog.landed[row.contract]
        if row.reason:
            told = f"dead letter: {row.reason} at {printable(row.reason_path or '$')}"
            return told, f"{row.contract} landed as a {told}"
        if row.place in self._published:
            return "in raw", None
        if row.place in self._quarantined:
            return "quarantined", None  # told where it is in quarantine
        for place in self._published:
            other = self._case.log_rows.get(place) if place and place[0] == row.contract else None
            if other and same_key(contract, other.event_id, row.event_id):
                copy = f"position {other.place[3]} of partition {other.place[2]}, origin {other.place[1]}"
                return (f"duplicate of {copy}" if isinstance(contract, EventContract) else f"older than {copy}"), None
        if isinstance(contract, RowsContract) and any(
            other.event_type == "d" and same_key(contract, other.event_id, row.event_id)
            for other in self._case.log_rows.values()
            if other.contract == row.contract
        ):
            return "deleted at its source", None
        start = self._catalog.window_of(contract, row.event_time).start
        reason = _not_there(
            self._case.windows.get((row.contract, start), Window()),
            "the window was published without it: raw was changed by something else, publish the window again",
        )
        return f"not in raw: {reason}", f"{row.contract} landed but is not in raw: {reason}"

    def _withheld(self) -> Iterable[Sighting]:
        for row in self._case.quarantined:
            contract = self._catalog.landed[row.place[0]]
            reasons = ", ".join(row.reasons)
            logged = self._case.log_rows.get(row.place)
            yield Sighting(
                "quarantine",
                contract.name,
                f"landing.quarantine {contract.name} {_window(self._catalog, contract, row.window_start)}",
                row.quarantined_at,
                _type(logged) if logged else None,
                f"withheld: {reasons}",
                None if logged is None else _seconds(logged.landed_at, row.quarantined_at),
                values={"key": masked_key(contract, row.key)},
                problem=f"{contract.name} is in quarantine: {reasons}",
            )

    def _raw(self) -> Iterable[Sighting]:
        happened = {place: row.event_time for place, row in self._case.log_rows.items()}
        for row in sorted(self._case.raw_rows, key=lambda row: happened.get(row.place or _NOWHERE, row.window_start)):
            contract = self._catalog.landed[row.dataset]
            window = self._case.windows.get((row.dataset, row.window_start), Window())
            logged = self._case.log_rows.get(row.place) if row.place else None
            yield Sighting(
                "raw",
                contract.name,
                f"raw.{contract.name} {_window(self._catalog, contract, row.window_start)}",
                window.decided_at,
                str(row.values[contract.event_type]) if isinstance(contract, EventContract) else "row",
                _standing(window),
                _bound(logged.landed_at if logged else None, window.decided_at),
                delay_is_bound=True,
                values=masked_row(contract, row.values),
            )

    def _marts(self) -> Iterable[Sighting]:
        for row in self._case.mart_rows:
            contract = self._catalog.marts[row.dataset].contract
            window = self._case.windows.get((row.dataset, row.window_start), Window())
            inputs = [
                found.decided_at
                for raw in self._case.raw_rows
                if raw.dataset in contract.inputs
                and (found := self._case.windows.get((raw.dataset, raw.window_start)))
                and found.decided_at
            ]
            yield Sighting(
                "marts",
                contract.name,
                f"marts.{contract.name} {row.window_start:%Y-%m-%d}",
                window.decided_at,
                "row",
                _standing(window),
                _bound(max(inputs, default=None), window.decided_at),
                delay_is_bound=True,
                values=masked_row(contract, row.values),
            )


_RECORD_STATES = {
    "compacted": "no longer there: compacted away",
    "recreated": "gone: the topic was deleted and made again",
    "deleted": "gone: the topic was deleted",
    "cut": "gone: the partition ends before it",
    "no_answer": "no answer within the deadline",
}


_NOWHERE = ("", -1, -1, -1)


def _not_there(window: Window, otherwise: str) -> str:
    match window:
        case Window(state=None):
            return "the window is not published yet"
        case Window(state="refused", failed_rules=rules):
            return f"the window was refused by {', '.join(rules)}" + (
                " and is to be judged again" if window.stale else ""
            )
        case Window(stale=True):
            return "the window waits to be published again"
        case _:
            return otherwise


def _standing(window: Window) -> str:
    match window:
        case Window(state=None):
            return "there, but its window was never published"
        case Window(state="refused", failed_rules=rules):
            return f"published before; newer input refused by {', '.join(rules)}"
        case Window(stale=True):
            return "published; newer input waits"
        case _:
            return "published"


def _type(row: LogRow) -> str | None:
    return None if row.event_type is None else printable(row.event_type)


def _window(catalog: Catalog, contract: Contract, start: datetime) -> str:
    return "whole" if contract.time_column is None else str(catalog.window_of(contract, start))


def _stamp(image: object, name: str) -> datetime | None:
    value = image.get(name) if isinstance(image, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    try:
        stamp = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return stamp if stamp and stamp.tzinfo else None


def _seconds(since: datetime, until: datetime) -> float:
    seconds = (until - since).total_seconds()
    return 0.0 if abs(seconds) < 0.001 else seconds  # Kafka keeps milliseconds


def _bound(since: datetime | None, until: datetime | None) -> float | None:
    seconds = _seconds(since, until) if since and until else None
    return seconds if seconds is not None and seconds >= 0 else None


def _short(instant: datetime | None) -> str:
    return "at an unknown time" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
