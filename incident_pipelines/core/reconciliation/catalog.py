"""Whether what is declared to be reconciled fits the rest of the catalog."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlglot
from sqlglot.expressions import CTE, Table

from incident_pipelines.core.contracts.ddl import PROVENANCE
from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.documents import Document, Path
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.reconciliation.declaration import (
    WAREHOUSE,
    Clearing,
    Reconciliation,
    Side,
)
from incident_pipelines.core.reviewed_select import outputs_of

JOIN_RATE_COLUMNS = ("joined", "total")
CLEARING_COLUMNS = ("item", "since", "amount", "currency")


@dataclass(frozen=True)
class Declarations:
    """What was read from the files, with the documents that know the lines.

    Args:
        sql: text of each file in ``sql/reconciliation/``, by file name.
    """

    reconciliations: tuple[tuple[Reconciliation, Document], ...] = ()
    clearings: tuple[tuple[Clearing, Document], ...] = ()
    sql: Mapping[str, str] = field(default_factory=dict[str, str])


def check_declarations(
    declarations: Declarations, sources: Mapping[str, str], contracts: Mapping[str, Contract]
) -> None:
    """Check names against each other, against the sources, and columns where the catalog knows them.

    Args:
        sources: of the catalog; `warehouse` is one beside them.
        contracts: of landed datasets and marts, by name.

    Raises:
        InvalidDocument: something does not exist or is there twice; the message names file and line.
    """
    names: dict[str, str] = {}
    for declared, document in (*declarations.reconciliations, *declarations.clearings):
        if declared.name in names:
            raise document.error(("name",), f"{declared.name!r} is declared in {names[declared.name]} already")
        names[declared.name] = document.name
    known = (*sources, WAREHOUSE)
    for reconciliation, document in declarations.reconciliations:
        for place, side in (("source", reconciliation.source), ("target", reconciliation.target)):
            _check_source(document, (place, "source"), side.source, known)
            columns = _columns_of(document, place, side, declarations.sql, contracts)
            if columns is not None:
                _check_columns(document, reconciliation, place, side, columns)
        if reconciliation.join_rate:
            _check_source(document, ("join_rate", "source"), reconciliation.join_rate.source, known)
            path = ("join_rate", "sql")
            _check_outputs(document, path, reconciliation.join_rate.sql, declarations.sql, JOIN_RATE_COLUMNS)
    for clearing, document in declarations.clearings:
        for index, stage in enumerate(clearing.stages):
            _check_source(document, ("stages", index, "source"), stage.source, known)
            _check_outputs(document, ("stages", index, "sql"), stage.sql, declarations.sql, CLEARING_COLUMNS)


def tables_of(side: Side, sql: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return schema (empty where none is named) and name of each table that a side reads."""
    if side.table is not None:
        schema, _, table = side.table.rpartition(".")
        return [(schema, table)]
    statement = sqlglot.parse_one(sql[side.sql or ""], read="postgres")
    named = {cte.alias for cte in statement.find_all(CTE)}
    return sorted({(one.db, one.name) for one in statement.find_all(Table) if one.db or one.name not in named})


def index_ddl(declared: Reconciliation, sql: Mapping[str, str], contracts: Mapping[str, Contract]) -> Iterator[str]:
    """Yield the statements that let an hour be found in tables of ours, where no contract asks for the index.

    Args:
        contracts: of landed datasets and marts, by name.
    """
    for side, place in ((declared.source, "source"), (declared.target, "target")):
        for schema, table in tables_of(side, sql) if side.source == WAREHOUSE else ():
            contract = contracts.get(table)
            if contract is None or schema != ("marts" if isinstance(contract, MartContract) else "raw"):
                continue
            known = {column.name for column in contract.columns}
            indexed = {contract.time_column, contract.correlation_id, contract.primary_key[0]}
            for instants in filter(None, (declared.time, declared.changed)):
                name = instants.source if place == "source" else instants.target
                if name in known - indexed:
                    indexed.add(name)
                    index = quoted(f"{schema}_{table}_{name}"[:63])
                    yield f"CREATE INDEX IF NOT EXISTS {index} ON {quoted(schema, table)} ({quoted(name)})"


def _check_source(document: Document, path: Path, source: str, known: Iterable[str]) -> None:
    if source not in known:
        raise document.error(path, f"source {source!r} is not in catalog.yaml; one of {', '.join(known)}")


def _columns_of(
    document: Document, place: str, side: Side, sql: Mapping[str, str], contracts: Mapping[str, Contract]
) -> frozenset[str] | None:
    """The columns of a side, where files say them: of a SELECT, or of a table of ours."""
    if side.sql is not None:
        return _outputs(document, (place, "sql"), side.sql, sql)
    schema, _, table = (side.table or "").rpartition(".")
    if side.source != WAREHOUSE or schema not in ("raw", "marts"):
        return None
    contract = contracts.get(table)
    if contract is None or isinstance(contract, MartContract) != (schema == "marts"):
        raise document.error((place, "table"), f"{side.table!r} is not a table that a contract declares")
    return frozenset({column.name for column in contract.columns} | (set(PROVENANCE) if schema == "raw" else set()))


def _check_columns(
    document: Document, declared: Reconciliation, place: str, side: Side, columns: frozenset[str]
) -> None:
    def check(path: Path, name: str | None) -> None:
        if name is not None and name not in columns:
            raise document.error(path, f"{side.table or side.sql} has no column {name!r}; it has {_listed(columns)}")

    for part, listed in (("key", declared.key), ("columns", declared.columns)):
        for index, column in enumerate(listed):
            check((part, index), column.source_name if place == "source" else column.target_name)
    for part, instants in (("time", declared.time), ("changed", declared.changed), ("money", declared.money)):
        if instants:
            check((part,), instants.source if place == "source" else instants.target)
    for index, one in enumerate(side.filters):
        check((place, "filters", index, "column"), one.column)
    # The currency stands beside the amount, on each side that has one.
    if declared.money and (declared.money.source if place == "source" else declared.money.target):
        check(("money", "currency"), declared.money.currency)


def _check_outputs(
    document: Document, path: Path, file: str, sql: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    missing = sorted(set(expected) - _outputs(document, path, file, sql))
    if missing:
        raise document.error(path, f"{file} must return {', '.join(expected)}; {', '.join(missing)} is missing")


def _outputs(document: Document, path: Path, file: str, sql: Mapping[str, str]) -> frozenset[str]:
    if file not in sql:
        raise document.error(path, f"sql/reconciliation/{file} is missing")
    return outputs_of(f"sql/reconciliation/{file}", sql[file])


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns))
