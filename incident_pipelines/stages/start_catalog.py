"""Writes a first catalog into an empty folder: files to fill in, and contracts drafted from real tables and events."""

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.found_table import find_table
from incident_pipelines.core.contracts.draft import CannotDraft, FoundTable, dataset_name, draft_rows_contract
from incident_pipelines.core.contracts.event_draft import draft_event_contract
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.identifiers import identifier
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE

_TEMPLATES = Path(__file__).parent / "start_catalog_files"
_FOLDERS = ("contracts", "marts", "reconciliations", "clearing", "recovery",
            "sql/marts", "sql/reconciliation", "sql/recovery")  # fmt: skip
_HISTORY = timedelta(days=7)
_TAKEN_SOURCES = frozenset({WAREHOUSE, "landing", "raw", "marts", "reconciliation", "recovery"})


@dataclass(frozen=True)
class WantedTable:
    """A table to draft a contract of.

    Args:
        variable: environment variable with the SQLAlchemy URL of its database.
        schema: None for the engine's default.
        changed, created: columns; if absent, they are known by their names.
    """

    variable: str
    schema: str | None
    table: str
    changed: str | None = None
    created: str | None = None

    @property
    def source(self) -> str:
        """Name of its database in the catalog: SHOP_DATABASE_URL is `shop`."""
        name = self.variable.lower().removesuffix("_url").removesuffix("_database")
        if name in _TAKEN_SOURCES:
            raise CannotDraft(f"a source cannot be called {name}: give its variable another name than {self.variable}")
        return identifier(name, f"source of {self.variable}")


@dataclass(frozen=True)
class WantedTopic:
    """A topic to draft a contract of, from a file with one event a line as it stands on the topic."""

    topic: str
    sample: Path


@dataclass(frozen=True)
class StartedCatalog:
    """What was written.

    Args:
        files: relative to the folder, in order.
        variables: names of the environment variables that it needs.
    """

    folder: Path
    files: tuple[str, ...]
    variables: tuple[str, ...]


def start_catalog(
    folder: Path,
    name: str,
    tables: Sequence[WantedTable],
    topics: Sequence[WantedTopic],
    environment: Mapping[str, str],
    now: datetime,
) -> StartedCatalog:
    """Write a catalog that loads as it is; either all of it is written, or nothing.

    Args:
        folder: empty, or not there yet.
        name: of the catalog.
        environment: addresses of the tables' databases.
        now: aware; the first partition is seven days before.

    Raises:
        IncidentPipelinesError: the folder is not empty, or a table or sample gives no contract.
    """
    folder = folder.expanduser().resolve()
    _require_empty(folder)
    identifier(name, "name of the catalog")
    found = [_found(wanted, environment) for wanted in tables]
    contents: dict[str, str] = {}
    for wanted, table in zip(tables, found, strict=True):
        _add(contents, table.dataset, draft_rows_contract(table, wanted.changed, wanted.created))
    for wanted_topic in topics:
        _add(contents, dataset_name(wanted_topic.topic), draft_event_contract(wanted_topic.topic, _lines(wanted_topic)))
    sources = {wanted.source: wanted.variable for wanted in tables}
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - _HISTORY
    values = {
        "NAME": name,
        "FOLDER": shlex.quote(str(folder)),
        "SQL": shlex.quote(str(folder / "sql")),
        "START": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "SOURCES": "\n".join(f"  {source}: {variable}" for source, variable in sources.items()) or "  {}",
        "ADDRESSES": "\n".join(f"export {variable}='postgresql+psycopg://USER@HOST:5432/DATABASE'"
                               for variable in dict.fromkeys(sources.values()))
        or "# export SHOP_DATABASE_URL='postgresql+psycopg://USER@HOST:5432/DATABASE'",
    }  # fmt: skip
    for template in sorted(path for path in _TEMPLATES.rglob("*") if path.is_file()):
        text = template.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"<<{key}>>", value)
        contents[str(template.relative_to(_TEMPLATES)).removesuffix(".template").replace("dot.", ".")] = text
    with tempfile.TemporaryDirectory() as tried:
        # What does not load must not be handed over.
        _write(Path(tried), contents)
        load_catalog({"INCIDENT_PIPELINES_CATALOG": tried, "INCIDENT_PIPELINES_SQL": f"{tried}/sql"})
    _write(folder, contents)
    return StartedCatalog(folder, tuple(sorted(contents)), tuple(dict.fromkeys(sources.values())))


def _require_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise IncidentPipelinesError(f"{folder} is no folder")
    present = sorted(path.name for path in folder.iterdir())
    if present:
        shown = ", ".join(present[:5]) + (f" and {len(present) - 5} more" if len(present) > 5 else "")
        raise IncidentPipelinesError(f"{folder} is not empty: {shown}; nothing was written. Name a new folder")


def _found(wanted: WantedTable, environment: Mapping[str, str]) -> FoundTable:
    url = environment.get(wanted.variable)
    if not url:
        raise CannotDraft(f"{wanted.variable} is not set: it has to hold the URL of the database of {wanted.table}")
    return find_table(url, wanted.source, wanted.variable, wanted.schema, wanted.table)


def _lines(wanted: WantedTopic) -> list[str]:
    try:
        return wanted.sample.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotDraft(f"topic {wanted.topic}: {wanted.sample} cannot be read: {error}") from error


def _add(contents: dict[str, str], dataset: str, text: str) -> None:
    file = f"contracts/{dataset}.yaml"
    if file in contents:
        raise CannotDraft(
            f"two of these would be the dataset {dataset}; name one of them alone, and add the other later"
        )
    contents[file] = text


def _write(folder: Path, contents: Mapping[str, str]) -> None:
    for part in _FOLDERS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
