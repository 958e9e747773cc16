"""What a platform contains: its contracts, sources and start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from incident_pipelines.core.contracts.model import (
    ChangeTopic,
    Contract,
    EventContract,
    Landed,
    MartContract,
    RowsContract,
    TableSource,
)
from incident_pipelines.core.documents import Document
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.identifiers import identifier
from incident_pipelines.core.incidents.modes import DEFAULT_MODE, MODES, Mode
from incident_pipelines.core.reconciliation.catalog import Declarations, check_declarations
from incident_pipelines.core.reconciliation.declaration import Clearing, Reconciliation
from incident_pipelines.core.recovery.declaration import Recoveries, Recovery, check_recoveries
from incident_pipelines.core.windows import TimeWindow

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Mart:
    """A mart's contract and the SELECT that makes one day of it, with binds ``:window_start`` and ``:window_end``.

    Args:
        quality: the SELECTs that its contract names, by file name.
    """

    contract: MartContract
    sql: str
    quality: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Catalog:
    """Everything that is declared.

    Args:
        start: first instant of the first partition; UTC, on the hour.
        sources: source name → environment variable with its SQLAlchemy URL.
        landed: contracts of datasets that enter through the log, by name, references before what refers to them.
        marts: by name.
        reconciliations, clearings: by name.
        reconciliation_sql: text of each reviewed SELECT that they name, by file name.
        mode: how much the system may do by itself about an incident.
        recoveries: where originals can be read again, by dataset.
        recovery_sql: text of each reviewed SELECT that they name, by file name.
    """

    name: str
    description: str
    start: datetime
    sources: Mapping[str, str]
    landed: Mapping[str, Landed]
    marts: Mapping[str, Mart]
    reconciliations: Mapping[str, Reconciliation] = field(default_factory=dict[str, Reconciliation])
    clearings: Mapping[str, Clearing] = field(default_factory=dict[str, Clearing])
    reconciliation_sql: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: Mode = DEFAULT_MODE
    recoveries: Mapping[str, Recovery] = field(default_factory=dict[str, Recovery])
    recovery_sql: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def personal_columns(self) -> frozenset[str]:
        """Names of columns that any contract marks as personal data."""
        contracts: list[Contract] = [*self.landed.values(), *(mart.contract for mart in self.marts.values())]
        return frozenset(column.name for contract in contracts for column in contract.columns if column.pii)

    @property
    def topics(self) -> dict[str, Landed]:
        """The contract of each topic that is landed."""
        found: dict[str, Landed] = {}
        for contract in self.landed.values():
            match contract:
                case EventContract(topic=topic) | RowsContract(origin=ChangeTopic(topic=topic)):
                    found[topic] = contract
                case RowsContract():
                    pass
        return found

    @property
    def whole(self) -> TimeWindow:
        """The one window of a dataset without a time column."""
        return TimeWindow(self.start, END_OF_TIME)

    def window_of(self, contract: Contract, start: datetime) -> TimeWindow:
        """Return the window of a dataset that begins at `start`: an hour, a day for marts, or the whole."""
        match contract:
            case MartContract():
                return TimeWindow.day_of(start)
            case _ if contract.time_column is None:
                return self.whole
            case _:
                return TimeWindow.hour_of(start)

    def downstream(self, dataset: str) -> tuple[MartContract, ...]:
        """Return the marts that read a raw dataset."""
        return tuple(mart.contract for mart in self.marts.values() if dataset in mart.contract.inputs)

    def referring(self, dataset: str) -> tuple[str, ...]:
        """Return the datasets with a column that must exist in this one."""
        return tuple(
            contract.name
            for contract in self.landed.values()
            if any(column.reference and column.reference.dataset == dataset for column in contract.columns)
        )


def build_catalog(
    document: Document,
    contracts: Mapping[str, Contract],
    sql: Mapping[str, str],
    start: datetime | None = None,
    declarations: Declarations | None = None,
    mode: Mode | None = None,
    recoveries: Recoveries | None = None,
    quality: Mapping[str, str] | None = None,
) -> Catalog:
    """Put the pieces of a catalog together and check that they fit.

    Args:
        document: catalog.yaml.
        contracts: contract by file name.
        sql: text of sql/marts/NAME.sql by NAME.
        start: takes the place of the document's start.
        declarations: what is reconciled.
        mode: takes the place of the document's.
        recoveries: where originals can be read again.
        quality: text of sql/quality/NAME.sql by NAME.sql.

    Raises:
        InvalidDocument: a name is used twice, or something named does not exist; the message says where.
    """
    data = document.data
    for key in data:
        if key not in {"name", "description", "start", "sources", "response"}:
            raise document.error((key,), "not known; one of name, description, start, sources, response")
    declared_start = data.get("start")
    if not isinstance(declared_start, datetime) or declared_start.tzinfo is None:
        raise document.error(("start",), "a timestamp with zone is expected, like 2026-01-01T00:00:00Z")
    first = (start or declared_start).astimezone(UTC)
    if first != first.replace(minute=0, second=0, microsecond=0):
        raise document.error(("start",), "must be on the hour")
    declared_sources: Any = data.get("sources") or {}
    if not isinstance(declared_sources, dict):
        raise document.error(("sources",), "a mapping of name to environment variable is expected")
    sources = {identifier(str(k)): str(v) for k, v in cast(dict[Any, Any], declared_sources).items()}

    by_name: dict[str, Contract] = {}
    files: dict[str, str] = {}
    for file, contract in contracts.items():
        if contract.name in by_name:
            raise InvalidDocument(f"{file}:1: {contract.name!r} is declared in {files[contract.name]} already")
        by_name[contract.name] = contract
        files[contract.name] = file
    landed = {n: c for n, c in by_name.items() if isinstance(c, EventContract | RowsContract)}
    for contract in landed.values():
        match contract:
            case RowsContract(origin=TableSource(source=source)) if source not in sources:
                raise InvalidDocument(
                    f"{files[contract.name]}:1: source {source!r} is not in {document.name}; one of {list(sources)}"
                )
            case _:
                pass
    for contract in by_name.values():
        for column in contract.columns:
            target = column.reference
            if target and (
                target.dataset not in landed or target.column not in [c.name for c in landed[target.dataset].columns]
            ):
                raise InvalidDocument(
                    f"{files[contract.name]}:1: {column.name} refers to {target.dataset}.{target.column}, "
                    "which no contract declares"
                )
    topics: dict[str, str] = {}
    marts: dict[str, Mart] = {}
    for name, contract in by_name.items():
        match contract:
            case EventContract(topic=topic) | RowsContract(origin=ChangeTopic(topic=topic)):
                if topic in topics:
                    raise InvalidDocument(f"{files[name]}:1: topic {topic!r} belongs to {topics[topic]!r} already")
                topics[topic] = name
            case MartContract():
                marts[name] = _mart(contract, files[name], landed, sql, quality or {})
            case RowsContract():
                pass
    declarations = declarations or Declarations()
    check_declarations(declarations, sources, by_name)
    recoveries = recoveries or Recoveries()
    check_recoveries(recoveries, sources, by_name)
    return Catalog(
        name=identifier(str(data.get("name", "")), f"{document.name}: name"),
        description=str(data.get("description", "")),
        start=first,
        sources=sources,
        landed=_references_first(landed),
        marts=marts,
        reconciliations={one.name: one for one, _ in declarations.reconciliations},
        clearings={one.name: one for one, _ in declarations.clearings},
        reconciliation_sql=declarations.sql,
        mode=mode or _mode(document),
        recoveries={one.dataset: one for one, _ in recoveries.declared},
        recovery_sql=recoveries.sql,
    )


def _mode(document: Document) -> Mode:
    response: Any = document.data.get("response")
    if response is None:
        return DEFAULT_MODE
    if not isinstance(response, dict) or set(cast(dict[Any, Any], response)) != {"mode"}:
        raise document.error(("response",), "a mapping with mode, and nothing else, is expected")
    declared: Any = cast(dict[str, Any], response)["mode"]
    for mode in MODES:
        if mode == declared:
            return mode
    raise document.error(("response", "mode"), f"{declared!r} is not known; one of {', '.join(MODES)}")


def _mart(
    contract: MartContract,
    file: str,
    landed: Mapping[str, Landed],
    sql: Mapping[str, str],
    quality: Mapping[str, str],
) -> Mart:
    for name in contract.inputs:
        if name not in landed:
            raise InvalidDocument(f"{file}:1: input {name!r} is not a landed dataset; one of {', '.join(landed)}")
    if contract.anchor:
        anchor = landed.get(contract.anchor.dataset)
        if not isinstance(anchor, EventContract) or anchor.correlation_id is None:
            raise InvalidDocument(
                f"{file}:1: anchor {contract.anchor.dataset!r} must be an event stream with a correlation id"
            )
        for name in contract.inputs:
            if landed[name].correlation_id is None:
                raise InvalidDocument(f"{file}:1: input {name!r} has no correlation id, which an anchor needs")
    if contract.name not in sql:
        raise InvalidDocument(f"{file}:1: sql/marts/{contract.name}.sql is missing")
    for one in contract.quality:
        if one.file not in quality:
            raise InvalidDocument(f"{file}:1: sql/quality/{one.file} is missing")
    return Mart(contract, sql[contract.name], tuple((one.file, quality[one.file]) for one in contract.quality))


def _references_first(landed: Mapping[str, Landed]) -> dict[str, Landed]:
    ordered: dict[str, Landed] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise InvalidDocument(f"contracts refer to each other in a circle: {' -> '.join((*path, name))}")
        if name in ordered:
            return
        for column in landed[name].columns:
            if column.reference and column.reference.dataset != name:
                visit(column.reference.dataset, (*path, name))
        ordered[name] = landed[name]

    for name in sorted(landed):
        visit(name, ())
    return ordered
