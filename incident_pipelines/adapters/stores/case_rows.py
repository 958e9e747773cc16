"""Finds everything of one business case in the warehouse.

The log has no index on the correlation id: its rows are found through raw and quarantine, which have one, among the
dead letters, by the key of rows, by the time of an event, and in the windows that are not published as the log is now.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.case import (
    Case,
    LogPlace,
    LogRow,
    PublishedRow,
    QuarantinedRow,
    Window,
    WindowKey,
    correlation_value,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.ddl import PROVENANCE
from incident_pipelines.core.contracts.model import Contract, EventContract, Landed
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.windows import TimeWindow

MAX_ROWS = 1_000
SEARCHED_ROWS = 2_000_000
"""Rows of the log that are searched without an index at most; what is left out is said."""

_LOG_COLUMNS = (
    "l.origin_id, l.partition, l.position, g.kind, g.topic, g.topic_id, l.kafka_timestamp, l.landed_at, l.event_time, "
    "l.event_id, l.event_type, l.reason, l.reason_path, l.value"
)


class CaseRows:
    """Reads what the warehouse has of a case into it.

    Args:
        connection: in a transaction of its own; one snapshot for everything.
    """

    def __init__(self, connection: Connection, catalog: Catalog, case: Case) -> None:
        self._connection = connection
        self._catalog = catalog
        self._case = case
        self._landed = {name: found for name, found in catalog.landed.items() if found.correlation_id}

    def read(self) -> None:
        """Read raw, marts, quarantine, the log, and the state of their windows."""
        self._connection.execute(text("SET LOCAL timezone = 'UTC'"))
        for contract in self._landed.values():
            self._case.raw_rows += self._published("raw", contract)
        for mart in self._catalog.marts.values():
            if mart.contract.correlation_id:
                self._case.mart_rows += self._published("marts", mart.contract)
        self._quarantine()
        for contract in self._landed.values():
            self._log_of(contract)
        self._search_windows()
        for contract in self._landed.values():
            self._copies(contract)
        self._windows()

    def _published(self, schema: str, contract: Contract) -> list[PublishedRow]:
        assert contract.correlation_id
        column = contract.column(contract.correlation_id)
        value = correlation_value(column, self._case.correlation_id)
        if value is None:
            return []
        names = [declared.name for declared in contract.columns]
        provenance = PROVENANCE if schema == "raw" else ()
        sought = quoted(column.name)
        if column.type in ("uuid", "text", "integer"):
            condition = f"{sought} = CAST(:value AS {column.sql_type})"
        else:
            condition = f"{sought}::text = :value"
        rows = self._all(
            f"SELECT {', '.join([*map(quoted, names), *provenance])} FROM {quoted(schema, contract.name)} "
            f"WHERE {condition} LIMIT {MAX_ROWS + 1}",
            f"{schema}.{contract.name}",
            value=value,
        )
        found: list[PublishedRow] = []
        for row in rows:
            values = dict(zip(names, row, strict=False))
            place = (contract.name, *row[len(names) :]) if provenance else None
            found.append(PublishedRow(contract.name, self._window_start(contract, values), values, place))
        return found

    def _window_start(self, contract: Contract, values: dict[str, Any]) -> datetime:
        at = values[contract.time_column] if contract.time_column else self._catalog.start
        if not isinstance(at, datetime):  # the day of a mart
            at = datetime(at.year, at.month, at.day, tzinfo=UTC)
        return self._catalog.window_of(contract, at).start

    def _quarantine(self) -> None:
        rows = self._all(
            "SELECT contract, origin_id, partition, position, window_start, key, reasons, quarantined_at FROM "
            "landing.quarantine WHERE correlation_id = ANY (:ids) AND contract = ANY (:names) "
            f"LIMIT {MAX_ROWS + 1}",
            "landing.quarantine",
            ids=self._spellings(),
            names=list(self._landed),
        )
        self._case.quarantined += [
            QuarantinedRow((row[0], row[1], row[2], row[3]), row[4], row[5], tuple(row[6]), row[7]) for row in rows
        ]

    def _log_of(self, contract: Landed) -> None:
        places = [row.place for row in (*self._case.raw_rows, *self._case.quarantined) if row.place]
        wanted = [place for place in places if place[0] == contract.name]
        if wanted:
            self._keep(
                contract,
                "(l.origin_id, l.partition, l.position) IN (SELECT * FROM unnest(CAST(:origins AS int[]), "
                "CAST(:partitions AS int[]), CAST(:positions AS bigint[])))",
                origins=[place[1] for place in wanted],
                partitions=[place[2] for place in wanted],
                positions=[place[3] for place in wanted],
            )
        self._keep(contract, "l.reason IS NOT NULL AND l.correlation_id = ANY (:ids)", ids=self._spellings())
        keys = [row.key for row in self._case.source_rows if row.contract == contract.name]
        if keys:
            self._keep(contract, "l.event_id = ANY (:keys)", keys=keys)

    def _search_windows(self) -> None:
        """Look through the log where raw may not show it: the hours the case is known from, and unpublished windows."""
        whole = [name for name, contract in self._landed.items() if contract.time_column is None]
        windows = [
            (row.dataset, row.window_start, row.rows)
            for row in self._connection.execute(
                query("unpublished_windows"),
                {"datasets": list(self._landed), "whole": whole, "start": self._catalog.start},
            )
        ]
        streams = [name for name, found in self._landed.items() if isinstance(found, EventContract)]
        hours = {TimeWindow.hour_of(row.at).start for row in self._case.source_rows if row.at}
        hours |= {row.window_start for row in self._case.raw_rows if row.dataset not in whole}
        if streams and hours:
            values = {"datasets": streams, "hours": sorted(hours)}
            for row in self._connection.execute(query("landed_hours"), values):
                windows.insert(0, (row.dataset, row.window_start, row.rows))
        searched: dict[str, set[datetime]] = {}
        left_out, budget = 0, SEARCHED_ROWS
        for dataset, start, rows in windows:
            if start in searched.get(dataset, ()):
                continue
            if rows > budget:
                left_out += 1
                continue
            budget -= rows
            searched.setdefault(dataset, set()).add(start)
        for dataset, starts in searched.items():
            contract = self._landed[dataset]
            spans = [self._catalog.window_of(contract, start) for start in sorted(starts)]
            self._keep(
                contract,
                "l.correlation_id = ANY (:ids) AND EXISTS (SELECT 1 FROM unnest(CAST(:starts AS timestamptz[]), "
                "CAST(:ends AS timestamptz[])) AS w (s, e) WHERE l.event_time >= w.s AND l.event_time < w.e)"
                if len(spans) > 1
                else "l.correlation_id = ANY (:ids) AND l.event_time >= CAST(:first AS timestamptz) "
                "AND l.event_time < CAST(:last AS timestamptz)",
                ids=self._spellings(),
                **(
                    {"starts": [span.start for span in spans], "ends": [span.end for span in spans]}
                    if len(spans) > 1
                    else {"first": spans[0].start, "last": spans[0].end}
                ),
            )
        if left_out:
            self._case.notes.append(
                f"{left_out} windows of the log were not searched, since at most {SEARCHED_ROWS:,} rows are; what raw "
                "does not show of them is missing here"
            )

    def _copies(self, contract: Landed) -> None:
        """Find what shares its key with a row that was found: copies of an event in its time, all images of a row."""
        rows = [row for row in self._case.log_rows.values() if row.contract == contract.name and row.event_id]
        if not rows:
            return
        if isinstance(contract, EventContract):
            is_uuid = contract.column(contract.event_id).type == "uuid"
            ids = [(row.event_id or "").lower() if is_uuid else row.event_id for row in rows]
            event_id = "lower(l.event_id)" if is_uuid else "l.event_id"
            self._keep(
                contract,
                "l.event_time = ANY (CAST(:times AS timestamptz[])) AND EXISTS (SELECT 1 FROM "
                "unnest(CAST(:times AS timestamptz[]), CAST(:keys AS text[])) AS k (at, id) "
                f"WHERE l.event_time = k.at AND {event_id} = k.id)",
                times=[row.event_time for row in rows],
                keys=ids,
            )
        else:
            self._keep(contract, "l.event_id = ANY (:keys)", keys=sorted({row.event_id or "" for row in rows}))

    def _keep(self, contract: Landed, condition: str, **values: Any) -> None:
        rows = self._all(
            f"SELECT {_LOG_COLUMNS} FROM {quoted('landing', contract.name)} l "
            f"JOIN landing.origins g ON g.origin_id = l.origin_id WHERE {condition} LIMIT {MAX_ROWS + 1}",
            f"landing.{contract.name}",
            **values,
        )
        for row in rows:
            place: LogPlace = (contract.name, row.origin_id, row.partition, row.position)
            value = None if row.value is None else bytes(row.value)
            self._case.log_rows[place] = LogRow(
                place=place,
                kind=row.kind,
                topic=row.topic,
                topic_id=row.topic_id,
                kafka_timestamp=row.kafka_timestamp,
                landed_at=row.landed_at,
                event_time=row.event_time,
                event_id=row.event_id,
                event_type=row.event_type,
                reason=row.reason,
                reason_path=row.reason_path,
                value=value,
            )

    def _windows(self) -> None:
        wanted: dict[WindowKey, TimeWindow] = {}
        for row in (*self._case.raw_rows, *self._case.mart_rows):
            contract = self._contract(row.dataset)
            wanted[row.dataset, row.window_start] = self._catalog.window_of(contract, row.window_start)
        for row in self._case.log_rows.values():
            window = self._catalog.window_of(self._landed[row.contract], row.event_time)
            wanted[row.contract, window.start] = window
        for name, day in self._anchored_days():
            wanted[name, day] = TimeWindow.day_of(day)
        if not wanted:
            return
        for row in self._connection.execute(
            query("decided_windows"),
            {
                "datasets": [dataset for dataset, _ in wanted],
                "starts": [window.start for window in wanted.values()],
                "ends": [window.end for window in wanted.values()],
            },
        ):
            decided = Window(row.state, bool(row.stale), tuple(row.failed_rules or ()), row.published_at)
            self._case.windows[row.dataset, row.window_start.astimezone(UTC)] = decided

    def _anchored_days(self) -> Iterable[WindowKey]:
        """Days on which marts should have a row of the case."""
        for mart in self._catalog.marts.values():
            anchor = mart.contract.anchor
            if anchor and mart.contract.correlation_id:
                for row in self._case.raw_rows:
                    if row.dataset == anchor.dataset:
                        yield mart.contract.name, TimeWindow.day_of(row.window_start).start

    def _contract(self, dataset: str) -> Contract:
        return self._landed[dataset] if dataset in self._landed else self._catalog.marts[dataset].contract

    def _spellings(self) -> list[str]:
        """The id as it was given and, where that is a UUID's, in the cases it may be written in."""
        given = self._case.correlation_id
        lower = given.strip().lower()
        types = {found.column(found.correlation_id).type for found in self._landed.values() if found.correlation_id}
        return list(dict.fromkeys([given, lower, lower.upper()])) if "uuid" in types else [given]

    def _all(self, statement: str, what: str, **values: Any) -> Sequence[Any]:
        rows: Collection[Any] = self._connection.execute(text(statement), values).all()
        if len(rows) > MAX_ROWS:
            self._case.notes.append(f"{what} has more than {MAX_ROWS:,} rows of this case; the others are not shown")
        return list(rows)[:MAX_ROWS]
