"""Where a dataset's originals can be read again: the model of ``recovery/*.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from incident_pipelines.core.contracts.model import Contract, EventContract, Landed, RowsContract
from incident_pipelines.core.declared import Declared, Duration, FileName, Identifier, parse_declared
from incident_pipelines.core.documents import Document, Path
from incident_pipelines.core.reviewed_select import outputs_of

EXTRACT_COLUMNS = ("event_id", "event_time", "key", "value")
KEPT_SINCE = "written_at"
TOTALS_COLUMNS = ("minute", "events")

_WINDOW_BINDS = (":window_start", ":window_end")

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]
# One name in the folder itself: no separator and no leading dot leads out of it.
DayFile = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*\{day\}[A-Za-z0-9_.-]*$")]
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class DatabaseExtract(Declared):
    """A reviewed SELECT in ``sql/recovery/`` that returns the original events of a window, like those of an outbox.

    Args:
        kept: how long after its ``written_at`` a row stays; if absent, for good.
    """

    source: Identifier
    sql: FileName
    kept: Duration | None = None


class AuditLog(Declared):
    """Append-only JSON lines, one file for each day (UTC) of the events.

    Args:
        location: environment variable with the folder.
        file: name of a day's file, with ``{day}`` for the date like 2026-11-01.
        value, key: fields of a line that hold the event as it was sent, and its key.
        late_days: how many days' files after its own may hold an event too.
        kept: how long after its day a file stays; if absent, for good.
    """

    location: Variable
    file: DayFile
    value: FieldName = "value"
    key: FieldName | None = None
    late_days: Annotated[int, Field(ge=0, le=31)] = 0
    kept: Duration | None = None


class ControlTotals(Declared):
    """A reviewed SELECT in ``sql/recovery/``: how many events the producer declares to have sent in each minute.

    Args:
        segments: columns of the SELECT, and of the contract, by which it tells them apart.
    """

    source: Identifier
    sql: FileName
    segments: tuple[Identifier, ...] = ()


class Recovery(Declared):
    """What is to be known of one dataset beside its contract; the order of preference stands there."""

    dataset: Identifier
    database_extract: DatabaseExtract | None = None
    audit_log: AuditLog | None = None
    control_totals: ControlTotals | None = None


@dataclass(frozen=True)
class Recoveries:
    """What was read from the files, with the documents that know the lines.

    Args:
        sql: text of each file in ``sql/recovery/``, by file name.
    """

    declared: tuple[tuple[Recovery, Document], ...] = ()
    sql: Mapping[str, str] = field(default_factory=dict[str, str])


def parse_recovery(name: str, text: str) -> tuple[Recovery, Document]:
    """Parse one declaration; arguments, result and errors as of `parse_declared`."""
    return parse_declared(Recovery, name, text)


def recovery_sources_of(contract: Landed) -> tuple[str, ...]:
    """Return the names of the sources that a contract promises, in its order of preference."""
    match contract:
        case EventContract(recovery_sources=sources) | RowsContract(recovery_sources=sources):
            return sources


def check_recoveries(recoveries: Recoveries, sources: Mapping[str, str], contracts: Mapping[str, Contract]) -> None:
    """Check names against the catalog, and the columns of each SELECT.

    Args:
        sources: of the catalog.
        contracts: of landed datasets and marts, by name.

    Raises:
        InvalidDocument: something does not exist, is there twice or does not fit; the message names file and line.
    """
    files: dict[str, str] = {}
    for declared, document in recoveries.declared:
        if declared.dataset in files:
            raise document.error(("dataset",), f"{declared.dataset!r} is declared in {files[declared.dataset]} already")
        files[declared.dataset] = document.name
        contract = contracts.get(declared.dataset)
        if not isinstance(contract, EventContract):
            events = ", ".join(name for name, one in contracts.items() if isinstance(one, EventContract))
            raise document.error(
                ("dataset",), f"{declared.dataset!r} is no event stream of a contract; one of {events}"
            )
        for name in ("database_extract", "audit_log"):
            if getattr(declared, name) is not None and name not in contract.recovery_sources:
                raise document.error(
                    (name,), f"the contract of {contract.name} does not name it among its recoverySources"
                )
        if extract := declared.database_extract:
            needed = (*EXTRACT_COLUMNS, KEPT_SINCE) if extract.kept else EXTRACT_COLUMNS
            _check_select(document, ("database_extract",), extract, needed, recoveries.sql, sources)
        if totals := declared.control_totals:
            needed = (*TOTALS_COLUMNS, *totals.segments)
            _check_select(document, ("control_totals",), totals, needed, recoveries.sql, sources)
            known = [column.name for column in contract.columns]
            if unknown := [name for name in totals.segments if name not in known]:
                told = f"{contract.name} has no column {', '.join(unknown)}; it has {', '.join(known)}"
                raise document.error(("control_totals", "segments"), told)


def _check_select(
    document: Document,
    path: Path,
    select: DatabaseExtract | ControlTotals,
    needed: tuple[str, ...],
    sql: Mapping[str, str],
    sources: Mapping[str, str],
) -> None:
    if select.source not in sources:
        raise document.error(
            (*path, "source"), f"source {select.source!r} is not in catalog.yaml; one of {', '.join(sources)}"
        )
    file = f"sql/recovery/{select.sql}"
    if select.sql not in sql:
        raise document.error((*path, "sql"), f"{file} is missing")
    missing = sorted(set(needed) - outputs_of(file, sql[select.sql]))
    if missing:
        raise document.error(
            (*path, "sql"), f"{select.sql} must return {', '.join(needed)}; {', '.join(missing)} is missing"
        )
    unbound = [bind for bind in _WINDOW_BINDS if bind not in sql[select.sql]]
    if unbound:
        raise document.error((*path, "sql"), f"{select.sql} must select by {' and '.join(_WINDOW_BINDS)}")
