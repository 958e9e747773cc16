"""Finds rows of raw that their source no longer has, and removes them by tombstones in the log; it can be undone.

A tombstone is an image of the row that says it is gone, under the incident's own correction origin: a rebuild keeps it,
and a row that comes back at its source comes back in raw with its next image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
import psycopg
from sqlalchemy import Connection, Engine, create_engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.raw_sql import (
    drop_outdated,
    newest_images,
    stage_raw,
    staged_before,
    staged_without_source,
    tombstoned_keys,
)
from incident_pipelines.adapters.databases.source_table import Row, SourceTable
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.log_append import append
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import Envelope, Envelopes, microseconds
from incident_pipelines.core.contracts.images import image_before, image_of, tombstone_of
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.landing import Messages
from incident_pipelines.core.recovery.deletes import GRACE, MissedDeletes, WindowDeletes, cap_of, refusal
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.source_urls import source_url

KEYS_AT_A_TIME = 1_000


class NotRemovable(IncidentPipelinesError):
    """A dataset has no source that could be asked whether a row is gone."""


def table_contract(catalog: Catalog, dataset: str) -> RowsContract:
    """Return the contract of a dataset whose rows are read from a table.

    Raises:
        NotRemovable: there is none of that name, or its rows come another way.
    """
    contract = catalog.landed.get(dataset)
    if not isinstance(contract, RowsContract) or not isinstance(contract.origin, TableSource):
        known = [name for name, one in catalog.landed.items() if _is_table(one)]
        raise NotRemovable(
            f"{dataset!r} is not read from a table of a source: nobody can be asked whether a row of it is gone; "
            f"one of {', '.join(known) or 'none'}"
        )
    return contract


@contextmanager
def source_of(catalog: Catalog, environment: Mapping[str, str], contract: RowsContract) -> Iterator[Engine]:
    """Give an engine of the database that a dataset is read from.

    Raises:
        SourceUnavailable: its address is not set.
    """
    assert isinstance(contract.origin, TableSource)
    engine = create_engine(source_url(catalog, environment, contract.origin.source))
    try:
        yield engine
    finally:
        engine.dispose()


def find_missed_deletes(
    source: Engine,
    warehouse: Engine,
    contract: RowsContract,
    windows: Sequence[TimeWindow],
    now: datetime,
    *,
    agreed: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> MissedDeletes:
    """Return the rows that raw has by the log and the source no longer has; nothing is changed.

    Each window is read in one snapshot of the source that is younger than what is known of the log; keys that it does
    not return are asked for one by one: a row may have moved to another window.

    Args:
        windows: of the dataset.
        now: aware; rows younger than `GRACE` are left alone.
        agreed: most rows that a person has agreed to remove; None where nobody was asked.
        check: called before each window; raises if it has to stop.

    Raises:
        SourceUnavailable: a database does not answer, or the table is not there as declared.
    """
    found: list[WindowDeletes] = []
    before = 0
    for window in windows:
        check()
        with available("warehouse"), warehouse.begin() as connection:
            rows = _stage(connection, contract, window, now)
            if not rows:
                continue
            source_rows = _stage_present(connection, source, contract, window)
            at_most = cap_of(agreed) + 1
            absent = connection.execute(text(staged_without_source(contract)), {"at_most": at_most}).all()
        keys = _still_absent(source, contract, [(row[0], tuple(row[1:])) for row in absent])
        if keys:
            refused = refusal(rows, source_rows, len(keys), before, agreed)
            before += 0 if refused else len(keys)
            found.append(WindowDeletes(window, rows, source_rows, tuple(keys), refused))
    return MissedDeletes(contract.name, tuple(found))


def tombstone(
    source: Engine,
    warehouse: Engine,
    contract: RowsContract,
    keys: Sequence[str],
    incident_id: str,
    now: datetime,
    *,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Append a tombstone for each row that the source, asked once more, still does not have; return how many.

    A key whose newest image is a tombstone already gets none: done twice is as if done once.

    Args:
        keys: as the log writes them.
        incident_id: note of the correction origin.
        now: aware.
        check: called before anything is appended; raises if it has to stop.

    Raises:
        SourceUnavailable: a database does not answer; what was appended stays.
    """

    def removed(connection: Connection, images: Mapping[str, Row]) -> dict[str, bytes]:
        present = [(key, _key_values(contract, bytes(image[6]))) for key, image in images.items() if image[1] != "d"]
        gone = _still_absent(source, contract, present)
        return {key: tombstone_of(bytes(images[key][6]), incident_id) for key in gone}

    return sum(
        _append_images(warehouse, contract, part, incident_id, now, "d", removed) for part in _parts(keys, check)
    )


def bury(warehouse: Engine, contract: RowsContract, keys: Sequence[str], note: str, now: datetime) -> int:
    """Append a tombstone for each row that a person has named, whatever the source has; return how many were new.

    Args:
        keys: as the log writes them.
        note: of the correction origin.
        now: aware.

    Raises:
        SourceUnavailable: the warehouse does not answer; what was appended stays.
    """

    def removed(_: Connection, images: Mapping[str, Row]) -> dict[str, bytes]:
        return {key: tombstone_of(bytes(image[6]), note) for key, image in images.items() if image[1] != "d"}

    return sum(
        _append_images(warehouse, contract, part, note, now, "d", removed) for part in _parts(keys, lambda: None)
    )


def newest_times(warehouse: Engine, contract: RowsContract, keys: Sequence[str]) -> list[datetime]:
    """Return the creation times of those rows of some keys that the log has and that are not removed."""
    with available("warehouse"), warehouse.connect() as connection:
        found = connection.execute(text(newest_images(contract)), {"keys": list(keys)})
        return [row[2] for row in found if row[1] != "d"]


def restore(warehouse: Engine, contract: RowsContract, incident_id: str, now: datetime) -> int:
    """Take back the tombstones that were appended for an incident; return how many rows come back.

    A row that has come back meanwhile is left as it is.

    Raises:
        SourceUnavailable: the warehouse does not answer; what was appended stays.
    """
    with available("warehouse"), warehouse.connect() as connection:
        values = {"dataset": contract.name, "note": incident_id}
        keys = list(connection.execute(text(tombstoned_keys(contract)), values).scalars())

    def back(_: Connection, images: Mapping[str, Row]) -> dict[str, bytes]:
        return {key: image_before(bytes(image[6])) for key, image in images.items() if image[1] == "d"}

    return sum(
        _append_images(warehouse, contract, part, incident_id, now, "r", back) for part in _parts(keys, lambda: None)
    )


def _stage(connection: Connection, contract: RowsContract, window: TimeWindow, now: datetime) -> int:
    """Make ``staged``: what a publish of the window would take from the log, less what is too young."""
    connection.execute(text(stage_raw(contract, window)))
    connection.execute(text(drop_outdated(contract, window)))
    if contract.time_column:
        connection.execute(text(staged_before(contract)), {"settled": now - GRACE})
    return int(connection.execute(query("count_staged")).scalar_one())


def _stage_present(connection: Connection, source: Engine, contract: RowsContract, window: TimeWindow) -> int:
    """Make ``present``, the keys that the source returns for a window; return their number."""
    connection.execute(query("stage_present_keys"))
    keys, key = _keys_only(contract), _key_of(contract)
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    count = 0
    with driver.cursor() as cursor, cursor.copy("COPY present (key) FROM STDIN") as copy:
        for page in SourceTable(source, keys).created_in(window):
            for row in page:
                copy.write_row((key(row),))
            count += len(page)
    connection.execute(query("analyze_present_keys"))
    return count


def _still_absent(
    source: Engine, contract: RowsContract, candidates: Sequence[tuple[str, tuple[Any, ...]]]
) -> list[str]:
    """Ask the source for each key; return those that it does not have."""
    if not candidates:
        return []
    key = _key_of(contract)
    present = {
        key(row).casefold() for row in SourceTable(source, _keys_only(contract)).holding([k for _, k in candidates])
    }
    return [name for name, _ in candidates if name.casefold() not in present]


def _append_images(
    warehouse: Engine,
    contract: RowsContract,
    keys: Sequence[str],
    note: str,
    now: datetime,
    event_type: str,
    choose: Callable[[Connection, Mapping[str, Row]], dict[str, bytes]],
) -> int:
    """Append what is chosen by the newest images of some keys, while no extract appends images of them."""
    with available("warehouse"), warehouse.begin() as connection:
        connection.execute(query("lock_extract"), {"dataset": contract.name})
        found = connection.execute(text(newest_images(contract)), {"keys": list(keys)})
        images: dict[str, Row] = {row[0]: tuple(row) for row in found}
        values = choose(connection, images)
        if not values:
            return 0
        # Later than what it takes the place of, whatever another machine's clock has said.
        landed_at = max(now, *(images[key][3] + timedelta(microseconds=1) for key in values)).astimezone(UTC)
        envelopes = Envelopes.of(
            Envelope(microseconds(images[key][2]), key, event_type, images[key][4], images[key][5]) for key in values
        )
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        append(
            driver,
            contract.name,
            "correction",
            Messages.of(list(values.values())),
            envelopes,
            landed_at=microseconds(landed_at),
            note=note,
        )
        failpoint("deletes.before_commit")
    failpoint("deletes.after_commit")
    return len(values)


def _parts(keys: Sequence[str], check: Callable[[], None]) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), KEYS_AT_A_TIME):
        check()
        yield keys[first : first + KEYS_AT_A_TIME]


def _keys_only(contract: RowsContract) -> RowsContract:
    names = {*contract.primary_key, *([contract.time_column] if contract.time_column else ())}
    return replace(contract, columns=tuple(one for one in contract.columns if one.name in names))


def _key_of(contract: RowsContract) -> Callable[[Row], str]:
    write = image_of(_keys_only(contract))
    return lambda row: write(row)[0]


def _key_values(contract: RowsContract, image: bytes) -> tuple[Any, ...]:
    """Return the primary key that stands in an image, in the types that PostgreSQL gives its columns."""
    fields = msgspec.json.decode(image)
    return tuple(_READ.get(contract.column(name).type, _same)(fields[name]) for name in contract.primary_key)


def _same(value: Any) -> Any:
    return value


_READ: Mapping[str, Callable[[Any], Any]] = {
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "numeric": lambda value: Decimal(str(value)),
}


def _is_table(contract: object) -> bool:
    return isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource)
