"""Reads a catalog from its folders."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from incident_pipelines.core.catalog import Catalog, build_catalog
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines.core.documents import MAX_BYTES, parse_document
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.incidents.modes import MODE_VARIABLE, Mode, response_mode
from incident_pipelines.core.reconciliation.catalog import Declarations
from incident_pipelines.core.reconciliation.declaration import parse_clearing, parse_reconciliation
from incident_pipelines.core.recovery.declaration import Recoveries, parse_recovery
from incident_pipelines.core.salvage import Salvages, build_salvages, parse_salvage

_PACKAGE = Path(__file__).resolve().parent.parent


def catalog_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return INCIDENT_PIPELINES_CATALOG, or the folder of the catalog that ships."""
    return Path(environment.get("INCIDENT_PIPELINES_CATALOG") or _PACKAGE / "catalog")


def sql_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return INCIDENT_PIPELINES_SQL, or the folder of the SQL that ships (inside the package once installed)."""
    named = environment.get("INCIDENT_PIPELINES_SQL")
    if named:
        return Path(named)
    inside = _PACKAGE / "sql"
    return inside if inside.is_dir() else _PACKAGE.parent / "sql"


def load_catalog(environment: Mapping[str, str] = os.environ) -> Catalog:
    """Read and check the catalog.

    Args:
        environment: INCIDENT_PIPELINES_CATALOG and INCIDENT_PIPELINES_SQL name the folders,
            INCIDENT_PIPELINES_START (ISO 8601 with zone) takes the place of the catalog's start,
            INCIDENT_PIPELINES_MODE that of its response mode.

    Raises:
        InvalidDocument: something is missing or wrong; the message names file and line.
    """
    folder = catalog_folder(environment)
    main = folder / "catalog.yaml"
    document = parse_document(main.name, _read(main, folder))
    contracts = {
        str(path.relative_to(folder)): parse_contract(str(path.relative_to(folder)), _read(path, folder))
        for part in ("contracts", "marts")
        for path in sorted((folder / part).glob("*.yaml"))
    }
    statements = sql_folder(environment)
    sql = {path.stem: _read(path, statements) for path in sorted((statements / "marts").glob("*.sql"))}
    return build_catalog(
        document,
        contracts,
        sql,
        _start(environment),
        _declarations(folder, statements),
        _mode(environment),
        _recoveries(folder, statements),
        {path.name: _read(path, statements) for path in sorted((statements / "quality").glob("*.sql"))},
    )


def _declarations(folder: Path, statements: Path) -> Declarations:
    def files(part: str) -> list[tuple[str, str]]:
        return [(str(path.relative_to(folder)), _read(path, folder)) for path in sorted((folder / part).glob("*.yaml"))]

    return Declarations(
        reconciliations=tuple(parse_reconciliation(name, text) for name, text in files("reconciliations")),
        clearings=tuple(parse_clearing(name, text) for name, text in files("clearing")),
        sql={path.name: _read(path, statements) for path in sorted((statements / "reconciliation").glob("*.sql"))},
    )


def _recoveries(folder: Path, statements: Path) -> Recoveries:
    return Recoveries(
        declared=tuple(
            parse_recovery(str(path.relative_to(folder)), _read(path, folder))
            for path in sorted((folder / "recovery").glob("*.yaml"))
        ),
        sql={path.name: _read(path, statements) for path in sorted((statements / "recovery").glob("*.sql"))},
    )


def load_salvages(catalog: Catalog, environment: Mapping[str, str] = os.environ) -> Salvages:
    """Read and check what can be salvaged; arguments and errors as of `load_catalog`."""
    folder, statements = catalog_folder(environment), sql_folder(environment)
    declared = [
        parse_salvage(str(path.relative_to(folder)), _read(path, folder))
        for path in sorted((folder / "salvage").glob("*.yaml"))
    ]
    sql = {path.name: _read(path, statements) for path in sorted((statements / "salvage").glob("*.sql"))}
    return build_salvages(declared, sql, catalog.sources)


def _mode(environment: Mapping[str, str]) -> Mode | None:
    named = environment.get(MODE_VARIABLE)
    return response_mode(named) if named else None


def _start(environment: Mapping[str, str]) -> datetime | None:
    text = environment.get("INCIDENT_PIPELINES_START")
    if not text:
        return None
    try:
        start = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidDocument(f"INCIDENT_PIPELINES_START {text!r} is not an ISO 8601 timestamp") from error
    if len(text) == 10:  # a date: its midnight in UTC
        start = start.replace(tzinfo=UTC)
    if start.tzinfo is None:
        raise InvalidDocument(f"INCIDENT_PIPELINES_START {text!r} has no zone; write it like 2026-01-01T00:00:00Z")
    return start


def _read(path: Path, root: Path) -> str:
    """Read a file that really lies under its root: links that lead out of it are refused."""
    if not path.is_file():
        raise InvalidDocument(f"{path}: no such file")
    if not path.resolve().is_relative_to(root.resolve()):
        raise InvalidDocument(f"{path}: lies outside {root}")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidDocument(f"{path}: larger than {MAX_BYTES} bytes")
    return path.read_text(encoding="utf-8")
