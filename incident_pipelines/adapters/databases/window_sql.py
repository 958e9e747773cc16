"""Contract → the statements that measure a staged window and bring the published one to it; PostgreSQL dialect."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from incident_pipelines.adapters.databases.protection import published_table
from incident_pipelines.adapters.databases.raw_sql import key_text
from incident_pipelines.adapters.databases.window_digest import content_columns, digest
from incident_pipelines.core.contracts.ddl import PROVENANCE
from incident_pipelines.core.contracts.model import Column, Contract, EventContract, Landed, MartContract
from incident_pipelines.core.contracts.rules import Rule
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.publication import CONFLICTING_COPIES, WITHIN_REACH, is_key_rule


@dataclass(frozen=True)
class Statement:
    """SQL and what its binds stand for."""

    sql: str
    values: Mapping[str, Any]


class WindowSql:
    """Statements over the temporary table ``staged`` and the published table of one dataset.

    Binds of every statement: ``:window_start``, ``:window_end`` (timestamps), those of rules besides.

    Args:
        contract: its identifiers were checked when it was parsed.
        rules: of the window.
        others: contracts of the datasets that rules refer to.
    """

    def __init__(self, contract: Contract, rules: Iterable[Rule], others: Mapping[str, Landed]) -> None:
        self.contract = contract
        self.target = quoted(*published_table(contract))
        self._key = contract.primary_key
        self._names = [column.name for column in contract.columns]
        self._stored = [*self._names, *(() if isinstance(contract, MartContract) else PROVENANCE)]
        self._others = others
        self._rule_values: dict[str, Any] = {}
        self._conditions = {
            rule.name: self._condition(rule) for rule in rules if rule.name != WITHIN_REACH and rule.kind != "query"
        }
        self._key_rules = {rule.name for rule in rules if is_key_rule(contract, rule)}

    def inside(self, alias: str) -> str:
        """Return the condition that a row of the published table lies in the window."""
        name = self.contract.time_column
        if name is None:
            return "true"
        column = self.contract.column(name)
        start, end = ("CAST(:window_start AS timestamptz)", "CAST(:window_end AS timestamptz)")
        if column.type == "date":
            start, end = (f"CAST({bound} AT TIME ZONE 'UTC' AS date)" for bound in (start, end))
        return f"{alias}.{quoted(name)} >= {start} AND {alias}.{quoted(name)} < {end}"

    def same_key(self, one: str, other: str) -> str:
        """Return the condition that two rows have the same primary key."""
        return " AND ".join(f"{one}.{quoted(name)} = {other}.{quoted(name)}" for name in self._key)

    def repeated_keys(self) -> str:
        """Return the query for the number of keys that are staged more than once."""
        key = ", ".join(map(quoted, self._key))
        return f"SELECT count(*) FROM (SELECT 1 FROM staged GROUP BY {key} HAVING count(*) > 1) repeated"

    def settle_copies(self) -> str:
        """Return the statement that deletes all but the first of identical copies and marks those that disagree.

        Its row count is the number of copies deleted.
        """
        key = ", ".join(f"s.{quoted(name)}" for name in self._key)
        fields = ", ".join(f"s.{quoted(name)}" for name in self._names)
        order = ", ".join(f"s.{name}" for name in PROVENANCE)
        return (
            f"WITH copies AS MATERIALIZED (SELECT {key}, count(DISTINCT ROW({fields})) > 1 AS differ, "
            f"(array_agg(s.ctid ORDER BY {order}))[1] AS first_copy FROM staged s GROUP BY {key} HAVING count(*) > 1), "
            "marked AS (UPDATE staged s SET staged_conflicting = true FROM copies c "
            f"WHERE c.differ AND {self.same_key('s', 'c')}) "
            f"DELETE FROM staged s USING copies c WHERE NOT c.differ AND {self.same_key('s', 'c')} "
            "AND s.ctid <> c.first_copy"
        )

    def mark_repeated(self) -> str:
        """Return the statement that marks every row of a mart whose key is staged more than once."""
        key = ", ".join(map(quoted, self._key))
        return (
            "UPDATE staged s SET staged_conflicting = true FROM "
            f"(SELECT {key} FROM staged GROUP BY {key} HAVING count(*) > 1) c WHERE {self.same_key('s', 'c')}"
        )

    def mark_quarantined_elsewhere(self) -> str:
        """Return the statement that marks staged events of which another window holds a copy in quarantine."""
        elsewhere = self._quarantined_elsewhere("FROM")
        return f"UPDATE staged s SET staged_conflicting = true {elsewhere} AND NOT s.staged_conflicting"

    def unaware_of_conflict(self) -> Statement:
        """Return the query for the windows that hold such a copy for other reasons only."""
        return Statement(
            f"SELECT DISTINCT q.window_start FROM staged s {self._quarantined_elsewhere('CROSS JOIN')} "
            "AND NOT (CAST(:conflicting AS text) = ANY (q.reasons))",
            {"conflicting": CONFLICTING_COPIES},
        )

    def _quarantined_elsewhere(self, joined: str) -> str:
        assert isinstance(self.contract, EventContract)
        return (
            f"{joined} landing.quarantine q WHERE q.contract = :dataset AND q.window_start <> :window_start "
            f"AND q.key = {key_text(self.contract, 's')}"
        )

    def copies_outside(self, *, broken_only: bool) -> Statement:
        """Return the query for rows published in other windows under a key that is staged here.

        Its columns: the staged row's ``ctid``, the published row's ``ctid`` and time, and for an event whether its row
        of the log really belongs to another window (else somebody moved it by hand) and that row's time.

        Args:
            broken_only: look at staged rows that break a rule and so will not meet the published one on insert.
        """
        assert self.contract.time_column
        real, event_time, log = "true", f"o.{quoted(self.contract.time_column)}", ""
        if isinstance(self.contract, EventContract):
            event_id = self.contract.column(self.contract.event_id)
            same = (
                f"{'lower(l.event_id)' if event_id.type == 'uuid' else 'l.event_id'} = o.{quoted(event_id.name)}::text"
            )
            log = (
                f" LEFT JOIN {quoted('landing', self.contract.name)} l ON l.origin_id = o.landing_origin_id "
                f"AND l.partition = o.landing_partition AND l.position = o.landing_position AND l.reason IS NULL "
                f"AND {same} AND NOT (l.event_time >= :window_start AND l.event_time < :window_end)"
            )
            real, event_time = "l.origin_id IS NOT NULL", "l.event_time"
        broken = f" AND ({self._any_broken()})" if broken_only else ""
        return Statement(
            f"SELECT CAST(s.ctid AS text), CAST(o.ctid AS text), o.{quoted(self.contract.time_column)}, {real}, "
            f"{event_time} FROM staged s JOIN {self.target} o ON {self.same_key('o', 's')}{log} "
            f"WHERE NOT ({self.inside('o')}){broken}",
            self._rule_values if broken_only else {},
        )

    def remove_moved(self) -> str:
        """Return the statement that takes published rows at the ctids ``:rows`` out; returns their correlation ids."""
        correlation = self.contract.correlation_id
        old = f"t.{quoted(correlation)}" if correlation else "NULL"
        return (
            f"DELETE FROM {self.target} t WHERE t.ctid = ANY (CAST(:rows AS tid[])) AND NOT ({self.inside('t')}) "
            f"AND EXISTS (SELECT 1 FROM staged s WHERE {self.same_key('s', 't')}) "
            f"RETURNING {old}"
        )

    def measure(self) -> Statement:
        """Return the query for the number of staged rows, then of those that break each rule, in the rules' order."""
        counts = "".join(f", count(*) FILTER (WHERE {condition})" for condition in self._conditions.values())
        return Statement(f"SELECT count(*){counts} FROM staged s", self._rule_values)

    @property
    def measured_rules(self) -> tuple[str, ...]:
        """Names of the rules `measure` counts, in its order."""
        return tuple(self._conditions)

    def withhold(self, rules: Iterable[str]) -> Statement:
        """Return the statement that copies staged rows that must not be published, with the reasons, to ``withheld``.

        Args:
            rules: names of the rules that withhold; copies that disagree always are.
        """
        cases = ["CASE WHEN s.staged_conflicting THEN :conflicting END"]
        values: dict[str, Any] = {**self._rule_values, "conflicting": CONFLICTING_COPIES}
        for number, name in enumerate(name for name in rules if name not in self._key_rules):
            cases.append(f"CASE WHEN {self._conditions[name]} THEN CAST(:reason_{number} AS text) END")
            values[f"reason_{number}"] = name
        key, provenance, correlation = "''", "NULL, NULL, NULL", "NULL"
        if not isinstance(self.contract, MartContract):
            key = key_text(self.contract, "s")
            provenance = ", ".join(f"s.{name}" for name in PROVENANCE)
            if self.contract.correlation_id:
                correlation = f"s.{quoted(self.contract.correlation_id)}::text"
        return Statement(
            "INSERT INTO withheld (staged_row, origin_id, partition, position, key, correlation_id, reasons) "
            f"SELECT s.ctid, {provenance}, {key}, {correlation}, b.reasons FROM staged s CROSS JOIN LATERAL "
            f"(SELECT array_remove(ARRAY[{', '.join(cases)}], NULL) AS reasons) b WHERE cardinality(b.reasons) > 0",
            values,
        )

    def outside_the_day(self) -> str:
        """Return the query for the number of a mart's staged rows that do not belong to its day."""
        return f"SELECT count(*) FROM staged s WHERE ({self.inside('s')}) IS NOT TRUE"

    def content(self) -> str:
        """Return the query for number and digest of the staged rows.

        Of what is to be there and not of the table: what others do to it meanwhile must not get into the digest.
        """
        return f"SELECT count(*), coalesce({digest(content_columns(self.contract), 's')}, 0) FROM staged s"

    def is_empty(self) -> str:
        """Return the query for whether nothing of the window is published."""
        return f"SELECT NOT EXISTS (SELECT 1 FROM {self.target} w WHERE {self.inside('w')})"

    def fill(self) -> str:
        """Return the statement that publishes ``staged`` into an empty window; for that, faster than `publish`."""
        stored = ", ".join(map(quoted, self._stored))
        return f"INSERT INTO {self.target} ({stored}) SELECT {stored} FROM staged"

    def make_changed(self) -> str:
        """Return the statement that makes ``changed``: correlation ids and event types before and after a change."""
        correlation = self.contract.correlation_id
        id_type = self.contract.column(correlation).sql_type if correlation else "text"
        return (
            f"CREATE TEMPORARY TABLE changed (before_correlation {id_type}, after_correlation {id_type}, "
            "before_type text, after_type text) ON COMMIT DROP"
        )

    def all_changed(self) -> str:
        """Return the statement that notes every staged row as one that was not there before."""
        correlation, event_type = self._traced()
        return (
            f"INSERT INTO changed (after_correlation, after_type) SELECT DISTINCT {correlation or 'NULL'}, "
            f"{event_type or 'NULL::text'} FROM staged"
        )

    def publish(self, *, keep_changes: bool) -> str:
        """Return the statement that brings the published window to ``staged`` and touches only rows that differ.

        The difference is made by a full join over the window: MERGE's own WHEN NOT MATCHED BY SOURCE would read the
        whole table. Returns the number of changed rows and of those that were there before.

        Args:
            keep_changes: copy what changed into ``changed`` (correlation ids and event types, before and after).
        """
        stored = ", ".join(map(quoted, self._stored))
        staged = ", ".join(f"s.{quoted(name)}" for name in self._stored)
        differ = f"({staged}) IS DISTINCT FROM ({', '.join(f'o.{quoted(name)}' for name in self._stored)})"
        first = quoted(self._key[0])
        keys = ", ".join(f"coalesce(s.{quoted(n)}, o.{quoted(n)}) AS staged_key_{i}" for i, n in enumerate(self._key))
        matched = " AND ".join(f"t.{quoted(name)} = d.staged_key_{index}" for index, name in enumerate(self._key))
        assignments = ", ".join(f"{quoted(name)} = d.{quoted(name)}" for name in self._stored if name not in self._key)
        assignments = assignments or f"{first} = d.{first}"
        correlation, event_type = self._traced() if keep_changes else (None, None)
        before = "".join(
            f", o.{name} AS staged_before_{what}"
            for what, name in (("correlation", correlation), ("type", event_type))
            if name
        )
        merge = (
            f"MERGE INTO {self.target} t USING (SELECT {staged}, {keys}, s.{first} IS NULL AS staged_gone{before} "
            f"FROM (SELECT * FROM {self.target} w WHERE {self.inside('w')}) o FULL JOIN staged s "
            f"ON {self.same_key('s', 'o')} WHERE s.{first} IS NULL OR o.{first} IS NULL OR {differ}) d "
            f"ON {matched} AND {self.inside('t')} "
            "WHEN MATCHED AND d.staged_gone THEN DELETE "
            f"WHEN MATCHED THEN UPDATE SET {assignments} "
            f"WHEN NOT MATCHED AND NOT d.staged_gone THEN INSERT ({stored}) "
            f"VALUES ({', '.join(f'd.{quoted(name)}' for name in self._stored)}) RETURNING merge_action() AS action"
        )
        if not keep_changes:
            return f"WITH merged AS ({merge}) SELECT count(*), count(*) FILTER (WHERE action <> 'INSERT') FROM merged"
        pairs = (("correlation", correlation), ("type", event_type))
        kept = [f"d.staged_before_{what}" if name else "NULL" for what, name in pairs]
        kept += [f"d.{name}" if name else "NULL" for _, name in pairs]
        returning = "".join(f", {value} AS kept_{number}" for number, value in enumerate(kept))
        return (
            f"WITH merged AS ({merge}{returning}), kept AS (INSERT INTO changed (before_correlation, before_type, "
            "after_correlation, after_type) SELECT kept_0, kept_1::text, kept_2, kept_3::text FROM merged) "
            "SELECT count(*), count(*) FILTER (WHERE action <> 'INSERT') FROM merged"
        )

    def _traced(self) -> tuple[str | None, str | None]:
        """Correlation id and event type, as far as the dataset has them, quoted."""
        correlation = self.contract.correlation_id
        event_type = self.contract.event_type if isinstance(self.contract, EventContract) else None
        return quoted(correlation) if correlation else None, quoted(event_type) if event_type else None

    def _any_broken(self) -> str:
        return " OR ".join(f"({condition})" for condition in self._conditions.values()) or "false"

    def _condition(self, rule: Rule) -> str:
        """Return the condition under which a staged row ``s`` breaks the rule."""
        if is_key_rule(self.contract, rule):
            return "s.staged_conflicting"
        column = self.contract.column(rule.columns[0])
        value = f"s.{quoted(column.name)}"
        bind = f"rule_{len(self._rule_values)}"
        match rule.kind:
            case "required":
                return f"{value} IS NULL"
            case "allowed":
                self._rule_values[bind] = list(rule.allowed)
                return f"{value}::text <> ALL (CAST(:{bind} AS text[]))"
            case "minimum" | "maximum":
                self._rule_values[bind] = rule.bound
                return f"{value} {'<' if rule.kind == 'minimum' else '>'} CAST(:{bind} AS numeric)"
            case "reference":
                assert rule.reference
                return self._unknown(column, *rule.reference)
            case "unique":
                return self._repeated(column)
            case "query":
                raise AssertionError("counts by a SELECT of its own")

    def _unknown(self, column: Column, dataset: str, name: str) -> str:
        value, target = f"s.{quoted(column.name)}", f"r.{quoted(name)}"
        if self._others[dataset].column(name).type != column.type:
            value, target = f"{value}::text", f"{target}::text"
        missing = f"NOT EXISTS (SELECT 1 FROM {quoted('raw', dataset)} r WHERE {target} = {value})"
        if dataset == self.contract.name:
            missing += f" AND NOT EXISTS (SELECT 1 FROM staged r WHERE {target} = {value})"
        return f"s.{quoted(column.name)} IS NOT NULL AND {missing}"

    def _repeated(self, column: Column) -> str:
        name = quoted(column.name)
        repeated = (
            f"s.{name} IN (SELECT c.{name} FROM staged c WHERE c.{name} IS NOT NULL GROUP BY 1 HAVING count(*) > 1)"
        )
        if self.contract.time_column is None:
            return repeated
        return (
            f"s.{name} IS NOT NULL AND ({repeated} OR EXISTS (SELECT 1 FROM {self.target} r WHERE r.{name} = s.{name} "
            f"AND NOT ({self.same_key('r', 's')}) AND NOT ({self.inside('r')})))"
        )
