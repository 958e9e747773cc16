"""How a day of a mart is built aside and brought into place."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.publication import WindowCounts, WindowInputs, leave_unwatched, read_inputs
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.catalog import Catalog, Mart
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.contracts.rules import Measurement, RuleResult
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.publication import WITHIN_REACH, measured, window_rules
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.stages.publication.window_builds import WITHHELD, Build

_BIND = re.compile(r"(?<![:\w]):(window_start|window_end|reach_end)\b")


class InputsMoved(Exception):
    """What a day is built from was published anew between its SELECT and what checks it: to be built again."""


class MartBuild(Build):
    """A day of a mart, from its SELECT.

    Args:
        inputs: of the day.
        look_elsewhere: look for the staged keys on other days first; needed where an attempt met one of them.
    """

    def __init__(
        self,
        connection: Connection,
        catalog: Catalog,
        mart: Mart,
        window: TimeWindow,
        inputs: WindowInputs,
        *,
        look_elsewhere: bool,
    ) -> None:
        super().__init__(connection, catalog, mart.contract, window)
        self._mart = mart
        self._inputs = inputs
        self._look_elsewhere = look_elsewhere
        self._moved = 0
        self._binds = {
            "window_start": window.start,
            "window_end": window.end,
            "reach_end": window.end + mart.contract.reach_days * DAY,
        }

    def measure(self) -> tuple[Measurement, ...]:
        contract = self._mart.contract
        select = self._bound(self._mart.sql)
        columns = ", ".join(
            f"CAST(m.{quoted(column.name)} AS {column.sql_type}) AS {quoted(column.name)}"
            for column in contract.columns
        )
        self._run(
            f"CREATE TEMPORARY TABLE staged ON COMMIT DROP AS SELECT {columns}, false AS staged_conflicting "
            f"FROM ({select.strip().rstrip(';')}\n) m"
        )
        if self._run(self._sql.outside_the_day()).scalar_one():
            raise InvalidDocument(
                f"sql/marts/{contract.name}.sql gives rows of other days than that of :window_start; "
                f"restrict {contract.time_column} to it"
            )
        if self._run(self._sql.repeated_keys()).scalar_one():
            self._run(self._sql.mark_repeated())
        if self._look_elsewhere:
            self._settle_elsewhere()
        rules = window_rules(contract)
        measurements = measured(rules, 0, {**self._count_broken(), **self._count_wrong()})
        late = self._late_events(self._binds["reach_end"]) if contract.anchor else 0
        return tuple(
            Measurement(found.rule, self._staged + late, late)
            if found.rule == WITHIN_REACH
            # A SELECT also counts what should be there and is not.
            else Measurement(found.rule, max(self._staged, found.unexpected), found.unexpected)
            for found in measurements
        )

    def counts(self) -> WindowCounts:
        return WindowCounts(rows=self._staged)

    def publish(self, results: Sequence[RuleResult]) -> WindowCounts:
        withheld = 0
        if any(result.unexpected for result in results):
            self._run(WITHHELD)
            withheld = self._withhold(results)
        content = self._content()
        changed, _ = self._bring_into_place(keep_changes=False)
        return WindowCounts(
            rows=self._staged - withheld, changed_rows=changed + self._moved, quarantined=withheld, content=content
        )

    def _count_wrong(self) -> dict[str, int]:
        """Return what the contract's own SELECTs count in the staged day, by rule."""
        found: dict[str, int] = {}
        texts = dict(self._mart.quality)
        for one in self._mart.contract.quality:
            rows = self._run(self._bound(texts[one.file].strip().rstrip(";"))).all()
            number = rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else None
            if not isinstance(number, int | Decimal) or number < 0 or number != int(number):
                raise InvalidDocument(
                    f"sql/quality/{one.file} has to give one row with one whole number, how much is wrong; it gives "
                    f"{len(rows)} rows" + (f" with {number!r}" if len(rows) == 1 else "")
                )
            found[one.name] = int(number)
        # Each statement sees what was committed before it: a window of the inputs in between makes both disagree.
        if any(found.values()):
            now = read_inputs(self._connection, self._contract.name, self._window)
            if now.version != self._inputs.version:
                raise InputsMoved
        return found

    def _bound(self, select: str) -> str:
        """Return a reviewed SELECT with its binds as literals: CREATE TABLE AS takes no parameters."""
        return _BIND.sub(lambda found: f"TIMESTAMPTZ '{self._binds[found[1]].isoformat(sep=' ')}'", select)

    def _settle_elsewhere(self) -> None:
        """Deal with keys of the staged day that are published on another one.

        Where that day is stale its row is outdated, and goes: the inputs have moved the key here. Otherwise the SELECT
        puts one key on two days, which is for a person to mend: the key is marked as not unique.
        """
        found = self._run(self._sql.copies_outside(broken_only=False)).all()
        stale = {
            row.window_start
            for row in self._connection.execute(query("stale_marts"), {"datasets": [self._contract.name]})
        }
        outdated: list[str] = []
        disputed: list[str] = []
        removed_from: set[TimeWindow] = set()
        for staged_row, published_row, day, _, _ in found:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            if start in stale:
                outdated.append(published_row)
                removed_from.add(TimeWindow.day_of(start))
            else:
                disputed.append(staged_row)
        if disputed:
            self._mark_conflicting(disputed)
        if outdated:
            leave_unwatched(self._connection, self._contract.name, removed_from)
            self._moved = len(self._run(self._sql.remove_moved(), rows=outdated).all())

    def _late_events(self, reach_end: datetime) -> int:
        """Return how many events of the day's cases came too late to be followed."""
        anchor = self._mart.contract.anchor
        assert anchor
        there = self._catalog.landed[anchor.dataset]
        assert isinstance(there, EventContract)
        assert there.correlation_id
        counts: list[str] = []
        for landed in (self._catalog.landed[name] for name in self._mart.contract.inputs):
            if not landed.time_column or not landed.correlation_id:
                continue
            # A cast would keep the index from serving.
            same_type = landed.column(landed.correlation_id).type == there.column(there.correlation_id).type
            cast = "" if same_type else "::text"
            cases = (
                f"SELECT a.{quoted(there.correlation_id)}{cast} FROM {quoted('raw', there.name)} a "
                f"WHERE a.{quoted(there.event_time)} >= :window_start AND a.{quoted(there.event_time)} < :window_end "
                f"AND a.{quoted(there.event_type)} = :anchor_type"
            )
            counts.append(
                f"(SELECT count(*) FROM {quoted('raw', landed.name)} e "
                f"WHERE e.{quoted(landed.time_column)} >= :reach_end "
                f"AND e.{quoted(landed.correlation_id)}{cast} IN ({cases}))"
            )
        if not counts:
            return 0
        late = self._run(f"SELECT {' + '.join(counts)}", reach_end=reach_end, anchor_type=anchor.event_type)
        return late.scalar_one()
