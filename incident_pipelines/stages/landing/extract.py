"""Appends to the log what changed in a source's table; what is gone there is not looked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import psycopg
from sqlalchemy import Connection, Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.raw_sql import known_images
from incident_pipelines.adapters.databases.source_table import Row, SourceTable
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.landing_log import hour_start
from incident_pipelines.adapters.stores.log_append import append
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import Envelopes, decoder_for, microseconds
from incident_pipelines.core.contracts.images import image_of
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.landing import HOUR_MICROSECONDS, Messages
from incident_pipelines.core.windows import TimeWindow

OVERLAP = timedelta(minutes=10)
"""Read again each time: a transaction may commit this long after it has set `updated_at`."""


@dataclass(frozen=True)
class Extracted:
    """What an extract did.

    Args:
        appended: rows whose image differs from what the log had.
        read: rows looked at.
        hours: that have become stale by it.
    """

    dataset: str
    appended: int
    read: int
    hours: tuple[datetime, ...]


def extract_changes(
    source: Engine, warehouse: Engine, catalog: Catalog, contract: RowsContract, *, now: datetime
) -> Extracted:
    """Append the rows that have changed since the last time; the first time all since the catalog's start.

    Args:
        source: database of the table.
        now: current time, aware; nothing later moves the watermark.

    Raises:
        SourceUnavailable: a database does not answer, or the table is not there as declared; what was appended stays.
    """
    assert isinstance(contract.origin, TableSource)
    with available("warehouse"), warehouse.connect() as connection:
        watermark = connection.execute(query("read_watermark"), {"dataset": contract.name}).scalar()
    # A table without creation time is small, and has rows older than the catalog that others refer to.
    since = catalog.start if contract.time_column else None
    if watermark is not None:
        since = min(watermark, now) - OVERLAP
    updated_at = [column.name for column in contract.columns].index(contract.origin.updated_at)
    newest = watermark or catalog.start

    def watched(pages: Iterable[list[Row]]) -> Iterable[list[Row]]:
        nonlocal newest
        for page in pages:
            yield page
            newest = max(newest, min(now, _aware(page[-1][updated_at], now)))

    pages = watched(SourceTable(source, contract).changed_since(since))
    extracted = append_changed(warehouse, catalog, contract, pages, now)
    failpoint("extract.before_watermark")
    with available("warehouse"), warehouse.begin() as connection:
        connection.execute(
            query("move_watermark"), {"dataset": contract.name, "updated_before": newest, "read_at": now}
        )
    return extracted


def extract_window(
    source: Engine, warehouse: Engine, catalog: Catalog, contract: RowsContract, window: TimeWindow, *, now: datetime
) -> Extracted:
    """Append the rows created in a window that the log does not have as they are now.

    Args:
        source: database of the table.
        window: one of the dataset's windows.
        now: current time, aware.

    Raises:
        SourceUnavailable: a database does not answer, or the table is not there as declared; what was appended stays.
    """
    return append_changed(warehouse, catalog, contract, SourceTable(source, contract).created_in(window), now)


def append_changed(
    warehouse: Engine,
    catalog: Catalog,
    contract: RowsContract,
    pages: Iterable[list[Row]],
    now: datetime,
    *,
    before: Callable[[int], None] | None = None,
    after: Callable[[int, int], None] = lambda rows, failed: None,
) -> Extracted:
    """Append the rows that the log does not have as they are now, page by page.

    Args:
        pages: of the table's rows, as `SourceTable` reads them.
        now: current time, aware.
        before: called with the most rows that are appended next; raises if they may not be.
        after: called with the rows of a page that were appended, and how many of these are dead letters.

    Raises:
        SourceUnavailable: the warehouse does not answer; what was appended stays.
    """
    write, decode = image_of(contract), decoder_for(contract, catalog.start)
    landed_at = microseconds(now)
    appended, read = 0, 0
    hours: set[int] = set()
    for page in pages:
        read += len(page)
        images = dict(write(row) for row in page)
        if before is not None:
            # Asked without the lock, as it may wait long: nobody else has to wait with it.
            with available("warehouse"), warehouse.connect() as connection:
                images = {key: images[key] for key in _unknown(connection, contract, images)}
            if not images:
                continue
            before(len(images))
        failed = 0
        with available("warehouse"), warehouse.begin() as connection:
            # One extract of a table at a time, or two would append the same change.
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended('extract ' || :dataset, 0))"),
                {"dataset": contract.name},
            )
            keys = _unknown(connection, contract, images)
            if keys:
                # A dead letter keeps its key too, or it would be appended again each time.
                values = [images[key] for key in keys]
                envelopes = Envelopes.of(
                    decode(value, landed_at, landed_at)._replace(event_id=key)
                    for key, value in zip(keys, values, strict=True)
                )
                driver = cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)
                append(driver, contract.name, "extract", Messages.of(values), envelopes, landed_at=landed_at)
                failed = sum(reason is not None for reason in envelopes.reasons)
                hours |= {time // HOUR_MICROSECONDS for time in envelopes.event_times}
        appended += len(keys)
        failpoint("extract.after_page")
        after(len(keys), failed)
    return Extracted(contract.name, appended, read, tuple(hour_start(hour) for hour in sorted(hours)))


def _unknown(connection: Connection, contract: RowsContract, images: dict[str, bytes]) -> list[str]:
    """Return the keys whose image is not what the log has of them."""
    known: dict[str, set[bytes]] = {}
    for key, value in connection.execute(text(known_images(contract)), {"keys": list(images)}):
        known.setdefault(key, set()).add(bytes(value))
    return [key for key, image in images.items() if image not in known.get(key, set())]


def _aware(value: object, now: datetime) -> datetime:
    if not isinstance(value, datetime):
        return now
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value
