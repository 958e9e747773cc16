"""Applies a manual correction: shown first, capped, agreed to by a second person, appended once under its own origin.

Nothing is published here: the hours rise, and the ordinary refresh publishes them and what is made from them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import sql_folder
from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.recovery_sources.manual import Message, keys_of, messages_of, read_correction
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_work import finish_action, intend_action, retry_action
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import EPOCH_MILLISECONDS, POSTGRES_EPOCH, microseconds
from incident_pipelines.core.contracts.model import Landed, RowsContract
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.documents import MAX_BYTES
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.incidents.scope import Affected, downstream_of
from incident_pipelines.core.masking import masked_message, masked_row
from incident_pipelines.core.recovery.correction import (
    MAX_ROWS,
    Correction,
    CorrectionRefused,
    check_approver,
    parse_correction,
)
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.recovery.missed_deletes import bury, newest_times
from incident_pipelines.stages.source_urls import source_url

SHOWN_ROWS = 5


@dataclass(frozen=True)
class Prepared:
    """A correction with the rows that it returns now; nothing was appended.

    Args:
        messages: to append; none for a delete.
        keys: of the rows to remove; none for an append.
        windows: how many rows each window gets or loses.
        unknown: keys to remove that the log does not have.
        sample: the first rows, with personal data masked.
        touched: windows of marts that are made from those windows.
    """

    correction: Correction
    contract: Landed
    messages: tuple[Message, ...]
    keys: tuple[str, ...]
    windows: Mapping[TimeWindow, int]
    unknown: int
    sample: tuple[object, ...]
    touched: tuple[Affected, ...]

    @property
    def rows(self) -> int:
        """Rows that the SELECT returns."""
        return len(self.messages) or len(self.keys)


def prepare_correction(
    catalog: Catalog,
    environment: Mapping[str, str],
    file: str,
    dataset: str,
    now: datetime,
    max_rows: int = MAX_ROWS,
) -> Prepared:
    """Read a correction of ``sql/corrections`` and what it returns; only reads.

    Args:
        environment: WAREHOUSE_URL, INCIDENT_PIPELINES_SQL, and the variables that the catalog names.
        file: name in that folder, or its path.
        now: aware.
        max_rows: that it may return.

    Raises:
        InvalidDocument: the file does not say what it has to.
        CorrectionRefused: no rows, too many, or rows that break the contract.
        SourceUnavailable: a database does not answer.
    """
    contract = catalog.landed.get(dataset)
    if contract is None:
        raise CorrectionRefused(f"{dataset!r} does not enter through the log; one of {', '.join(catalog.landed)}")
    name, text = _read(environment, file)
    correction = parse_correction(name, text, contract)
    rows = read_correction(source_url(catalog, environment, correction.source), correction, max_rows)
    sample: tuple[object, ...]
    if correction.action == "delete" and isinstance(contract, RowsContract):
        messages: list[Message] = []
        keys = keys_of(contract, rows)
        times = _times(environment, contract, keys)
        unknown = len(keys) - len(times)
        sample = tuple(masked_row(contract, row) for row in rows[:SHOWN_ROWS])
    else:
        messages, keys, unknown = messages_of(correction, contract, rows), [], 0
        times = _checked(catalog, correction, contract, messages, now)
        sample = tuple(masked_message(contract, value) for _, value in messages[:SHOWN_ROWS])
    windows = Counter(catalog.window_of(contract, at) for at in times)
    touched = downstream_of(catalog, [(dataset, window) for window in windows], now)
    return Prepared(
        correction, contract, tuple(messages), tuple(keys), dict(sorted(windows.items())), unknown, sample, touched
    )


def apply_correction(
    catalog: Catalog,
    environment: Mapping[str, str],
    prepared: Prepared,
    actor: Actor,
    now: datetime,
    *,
    control: Engine | None = None,
    incident_id: str | None = None,
) -> int:
    """Append what was prepared, once; return how many rows are new.

    Args:
        actor: who agrees to it; not its author.
        now: aware.
        control: control database; needed with an incident.
        incident_id: that it is a part of: intent and outcome go into its timeline.

    Raises:
        CorrectionRefused: the author may not apply it.
        UnknownIncident: there is none of that id.
        SourceUnavailable: a database does not answer; applying it again is safe.
    """
    correction = prepared.correction
    check_approver(correction, actor.name)
    if control is None or incident_id is None:
        return _append(catalog, environment, prepared, f"correction {correction.digest[:12]}", now)
    key = f"{incident_id}:correct:{prepared.contract.name}:{correction.digest[:16]}"
    what = f"{correction.action} {prepared.rows:,} rows of {prepared.contract.name} by {correction.file}"
    with available("control database"), control.begin() as connection:
        read_incident(connection, incident_id)
        target: dict[str, Any] = {
            "what": what,
            "file": correction.file,
            "digest": correction.digest,
            "author": correction.author,
            "reason": correction.reason,
        }
        told = f"{what}, written by {correction.author}, agreed to by {actor}: {correction.reason}"
        if not intend_action(connection, incident_id, key, "correct", target, actor, told, now):
            retry_action(connection, key)
    appended = _append(catalog, environment, prepared, f"{incident_id} {correction.digest[:12]}", now)
    with available("control database"), control.begin() as connection:
        finish_action(connection, key, "done", {"appended": appended}, actor, f"{what}: {appended:,} were new", now)
    return appended


def _append(catalog: Catalog, environment: Mapping[str, str], prepared: Prepared, note: str, now: datetime) -> int:
    contract = prepared.contract
    if prepared.keys and isinstance(contract, RowsContract):
        warehouse = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines correct")
        try:
            return bury(warehouse, contract, prepared.keys, note, now)
        finally:
            warehouse.dispose()
    appender = LogAppender(environment["WAREHOUSE_URL"], catalog, clock=lambda: now)
    sent = microseconds(now) // 1000 + EPOCH_MILLISECONDS
    try:
        records = [(sent, key, value) for key, value in prepared.messages]
        chunk = f"correction {prepared.correction.digest}"
        return appender.append(contract.name, records, "correction", chunk, note)
    finally:
        appender.close()


def _checked(
    catalog: Catalog, correction: Correction, contract: Landed, messages: list[Message], now: datetime
) -> list[datetime]:
    """Return the event times of messages that keep their contract, all of them."""
    decoder = MessageDecoder(contract, catalog.start)
    at = microseconds(now)
    envelopes = decoder.envelopes([value for _, value in messages], [at] * len(messages), at)
    for number, (reason, path) in enumerate(zip(envelopes.reasons, envelopes.reason_paths, strict=True), start=1):
        if reason is not None:
            raise CorrectionRefused(f"{correction.file}: row {number} breaks its contract: {reason} at {path}")
    return [POSTGRES_EPOCH + timedelta(microseconds=int(time)) for time in envelopes.event_times]


def _times(environment: Mapping[str, str], contract: RowsContract, keys: list[str]) -> list[datetime]:
    warehouse = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines correct")
    try:
        return [at.astimezone(UTC) for at in newest_times(warehouse, contract, keys)]
    finally:
        warehouse.dispose()


def _read(environment: Mapping[str, str], file: str) -> tuple[str, str]:
    """Return name and text of a file that lies in ``sql/corrections`` itself."""
    folder = (sql_folder(environment) / "corrections").resolve()
    path = Path(file)
    path = (path if path.is_file() else folder / file).resolve()
    if path.parent != folder or path.suffix != ".sql":
        raise CorrectionRefused(f"{file} does not lie in {folder}: corrections are reviewed there")
    if not path.is_file():
        known = ", ".join(sorted(one.name for one in folder.glob("*.sql"))) if folder.is_dir() else ""
        raise CorrectionRefused(f"there is no {path.name} in {folder}; it has {known or 'none'}")
    if path.stat().st_size > MAX_BYTES:
        raise CorrectionRefused(f"{path.name} is larger than {MAX_BYTES} bytes")
    return path.name, path.read_text(encoding="utf-8")
