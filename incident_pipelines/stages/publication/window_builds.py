"""How a window is built aside and brought into place; here in general and for raw datasets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, text

from incident_pipelines.adapters.databases.publication import (
    Mark,
    WindowCounts,
    WindowInputs,
    leave_unwatched,
    raise_marks,
    waiting_for_rules,
)
from incident_pipelines.adapters.databases.raw_sql import dead_letters, drop_outdated, stage_raw
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.databases.window_copies import record_copies
from incident_pipelines.adapters.databases.window_digest import content_columns
from incident_pipelines.adapters.databases.window_sql import Statement, WindowSql
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Anchor, Contract, EventContract, Landed, RowsContract
from incident_pipelines.core.contracts.rules import Measurement, RuleResult
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.publication import DeadLetterCount, WindowContent, measured, window_rules
from incident_pipelines.core.windows import TimeWindow

WITHHELD = (
    "CREATE TEMPORARY TABLE withheld (staged_row tid, origin_id integer, partition integer, position bigint, "
    "key text, correlation_id text, reasons text[]) ON COMMIT DROP"
)


class Build(ABC):
    """One window on its way: `measure`, then `publish` if the verdict allows, inside the caller's transaction."""

    def __init__(self, connection: Connection, catalog: Catalog, contract: Contract, window: TimeWindow) -> None:
        self._connection = connection
        self._catalog = catalog
        self._contract = contract
        self._window = window
        self._sql = _window_sql(contract, tuple(catalog.landed.values()))
        self._values: dict[str, Any] = {
            "dataset": contract.name,
            "window_start": window.start,
            "window_end": window.end,
        }
        self._staged = 0

    @abstractmethod
    def measure(self) -> tuple[Measurement, ...]:
        """Build the window aside and return what each rule saw in it."""

    @abstractmethod
    def counts(self) -> WindowCounts:
        """Return the window's numbers as far as they are known."""

    @abstractmethod
    def publish(self, results: Sequence[RuleResult]) -> WindowCounts:
        """Bring the window into place and make stale what depends on what changed.

        Args:
            results: verdict of the rules; rows that break one of severity `error` are withheld.
        """

    def _count_broken(self) -> dict[str, int]:
        row = self._run(self._sql.measure()).one()
        self._staged = row[0]
        return dict(zip(self._sql.measured_rules, row[1:], strict=True))

    def _withhold(self, results: Sequence[RuleResult]) -> int:
        """Take out of the staged window what must not be published; return the number of rows."""
        rules = [
            result.rule
            for result in results
            if result.severity == "error" and result.unexpected and result.rule in self._sql.measured_rules
        ]
        withheld = self._run(self._sql.withhold(rules)).rowcount
        if withheld:
            self._run("DELETE FROM staged s USING withheld w WHERE s.ctid = w.staged_row")
        return withheld

    def _content(self) -> WindowContent:
        rows, digest = self._run(self._sql.content()).one()
        return WindowContent(rows, int(digest), content_columns(self._contract))

    def _bring_into_place(self, *, keep_changes: bool) -> tuple[int, int]:
        """Publish what is staged; return the number of changed rows, and of those that were there before."""
        if not self._run(self._sql.is_empty()).scalar_one():
            changed, replaced = self._run(self._sql.publish(keep_changes=keep_changes)).one()
            return changed, replaced
        if keep_changes:
            self._run(self._sql.all_changed())
        return self._run(self._sql.fill()).rowcount, 0

    def _mark_conflicting(self, rows: Sequence[str]) -> None:
        self._run("UPDATE staged s SET staged_conflicting = true WHERE s.ctid = ANY (CAST(:rows AS tid[]))", rows=rows)

    def _run(self, statement: Statement | str, **values: Any) -> Any:
        if isinstance(statement, str):
            return self._connection.execute(text(statement), {**self._values, **values})
        return self._connection.execute(text(statement.sql), {**self._values, **statement.values, **values})


class RawBuild(Build):
    """A window of a raw dataset, from the landing log.

    Args:
        inputs: of the window.
        look_elsewhere: look for the staged keys in other windows first; needed where an attempt met one of them.
    """

    def __init__(
        self,
        connection: Connection,
        catalog: Catalog,
        contract: Landed,
        window: TimeWindow,
        inputs: WindowInputs,
        *,
        look_elsewhere: bool,
    ) -> None:
        super().__init__(connection, catalog, contract, window)
        self._landed = contract
        self._inputs = inputs
        self._look_elsewhere = look_elsewhere
        self._duplicates = 0
        self._dead: list[DeadLetterCount] = []
        self._marks: set[Mark] = set()
        self._broken = 0
        self._moved_from: set[datetime] = set()
        self._anchors = {
            mart.anchor for mart in catalog.downstream(contract.name) if mart.anchor and contract.correlation_id
        }

    def measure(self) -> tuple[Measurement, ...]:
        match self._landed:
            case EventContract():
                self._run(stage_raw(self._landed, self._window))
                if self._run(self._sql.repeated_keys()).scalar_one():
                    self._duplicates = self._run(self._sql.settle_copies()).rowcount
                if self._inputs.others_have_quarantine:
                    self._run(self._sql.mark_quarantined_elsewhere())
                    unaware = self._run(self._sql.unaware_of_conflict())
                    self._marks |= {(self._landed.name, row[0]) for row in unaware}
            case RowsContract():
                self._run(stage_raw(self._landed, self._window))
                self._run(drop_outdated(self._landed, self._window))
        if self._inputs.dead_letters:
            self._dead = [DeadLetterCount(*row) for row in self._run(dead_letters(self._landed))]
        if self._anchors:
            self._run(self._sql.make_changed())
        if self._look_elsewhere:
            self._settle_elsewhere(broken_only=False)
        broken = self._count_broken()
        if any(broken.values()) and not self._look_elsewhere and self._settle_elsewhere(broken_only=True):
            broken = self._count_broken()
        self._broken = sum(broken.values())
        return measured(window_rules(self._landed), self._staged, broken, self._dead)

    def counts(self) -> WindowCounts:
        return WindowCounts(
            rows=self._staged, duplicates=self._duplicates, dead_letters=sum(dead.count for dead in self._dead)
        )

    def publish(self, results: Sequence[RuleResult]) -> WindowCounts:
        withheld = 0
        if self._broken or self._inputs.has_quarantine:
            self._run(WITHHELD)
            withheld = self._withhold(results) if self._broken else 0
            self._connection.execute(query("store_quarantine"), self._values)
        content = self._content()
        changed, replaced = self._bring_into_place(keep_changes=bool(self._anchors))
        if changed or self._moved_from:
            self._mark_dependents(replaced > 0 or bool(self._moved_from))
        raise_marks(self._connection, self._marks)
        if isinstance(self._landed, EventContract):
            record_copies(self._connection, self._landed, self._window, self._staged, self._duplicates)
        return WindowCounts(
            rows=self._staged - withheld,
            changed_rows=changed + len(self._moved_from),
            duplicates=self._duplicates,
            dead_letters=sum(dead.count for dead in self._dead),
            quarantined=withheld,
            content=content,
        )

    def _settle_elsewhere(self, *, broken_only: bool) -> bool:
        """Deal with keys of the staged window that are published in another one; return whether there were any.

        An event's copy in another window conflicts with ours, since their times differ: ours is marked, and theirs
        goes the same way when its window is built again. Rows move: the staged image is the newest of all. What does
        not belong to the other window by the log was moved there by hand, and goes.
        """
        if self._landed.time_column is None:
            return False
        found = self._run(self._sql.copies_outside(broken_only=broken_only)).all()
        conflicts = isinstance(self._landed, EventContract)
        marked = [row[0] for row in found if row[3]] if conflicts else []
        removed = [row[1] for row in found if not (conflicts and row[3])]
        for _, _, published_time, _, logged_time in found:
            for instant in (published_time, logged_time):
                if instant is not None:
                    self._marks.add((self._landed.name, TimeWindow.hour_of(instant).start))
        if marked:
            self._mark_conflicting(marked)
        if removed and not broken_only:
            moved_from = {TimeWindow.hour_of(row[2]) for row in found if row[1] in set(removed)}
            self._moved_from |= {hour.start for hour in moved_from}
            leave_unwatched(self._connection, self._landed.name, moved_from)
            correlations = [row[0] for row in self._run(self._sql.remove_moved(), rows=removed)]
            if self._anchors:
                self._run(
                    f"INSERT INTO changed (before_correlation) SELECT unnest(CAST(:ids AS {self._id_type()}[]))",
                    ids=[str(value) for value in correlations if value is not None],
                )
        return bool(marked)

    def _id_type(self) -> str:
        return self._landed.column(self._landed.correlation_id).sql_type if self._landed.correlation_id else "text"

    def _mark_dependents(self, replaced: bool) -> None:
        """Make stale what was built, or not built, from the rows as they were."""
        self._marks |= self._mart_days()
        for name in self._catalog.referring(self._landed.name):
            rules = [
                rule.name
                for rule in window_rules(self._catalog.landed[name])
                if rule.reference and rule.reference[0] == self._landed.name
            ]
            self._marks |= waiting_for_rules(self._connection, name, rules)
        if replaced:
            unique = [rule.name for rule in window_rules(self._landed) if rule.kind == "unique"]
            self._marks |= waiting_for_rules(self._connection, self._landed.name, unique)
        self._marks.discard((self._landed.name, self._window.start))

    def _mart_days(self) -> set[Mark]:
        marts = self._catalog.downstream(self._landed.name)
        days = {anchor: self._anchor_days(anchor) for anchor in self._anchors}
        marks: set[Mark] = set()
        for mart in marts:
            if mart.anchor and mart.anchor in days:
                marks |= {(mart.name, day) for day in days[mart.anchor]}
            elif self._landed.time_column is None:
                known = self._connection.execute(
                    text("SELECT window_start FROM publication.windows WHERE dataset = :mart"), {"mart": mart.name}
                )
                marks |= {(mart.name, row[0]) for row in known}
            else:
                for hour in {self._window.start, *self._moved_from}:
                    today = TimeWindow.day_of(hour).start
                    marks |= {(mart.name, today - timedelta(days=back)) for back in range(mart.reach_days + 1)}
        first = TimeWindow.day_of(self._catalog.start).start
        return {(name, day) for name, day in marks if day >= first}

    def _anchor_days(self, anchor: Anchor) -> set[datetime]:
        """Return the days to which the anchors of the changed rows' cases put them, later than the reach too.

        A mart's rows of a day beyond its reach do not change, but its count of events beyond the reach does.
        """
        there = self._catalog.landed[anchor.dataset]
        assert isinstance(there, EventContract)
        assert there.correlation_id
        assert self._landed.correlation_id
        ids = there.column(there.correlation_id)
        # A cast would keep the index from serving.
        cast = "" if ids.type == self._landed.column(self._landed.correlation_id).type else "::text"
        found = self._run(
            f"SELECT DISTINCT date_trunc('day', a.{quoted(there.event_time)}, 'UTC') FROM "
            "(SELECT before_correlation AS id FROM changed UNION SELECT after_correlation FROM changed) c "
            f"JOIN {quoted('raw', there.name)} a ON a.{quoted(ids.name)}{cast} = c.id{cast} "
            f"WHERE a.{quoted(there.event_type)} = :anchor_type",
            anchor_type=anchor.event_type,
        )
        days = {row[0].astimezone(UTC) for row in found}
        if anchor.dataset == self._landed.name:
            own = self._run(
                "SELECT EXISTS (SELECT 1 FROM changed WHERE :anchor_type IN (before_type, after_type))",
                anchor_type=anchor.event_type,
            )
            if own.scalar_one():
                days |= {TimeWindow.day_of(hour).start for hour in {self._window.start, *self._moved_from}}
        return days


@lru_cache(maxsize=1000)
def _window_sql(contract: Contract, landed: tuple[Landed, ...]) -> WindowSql:
    return WindowSql(contract, window_rules(contract), {other.name: other for other in landed})
