"""Appends messages to the landing log that come from no topic, checked against their contract like all others."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import psycopg

from incident_pipelines.adapters.databases.postgres import available, driver_url
from incident_pipelines.adapters.stores.log_append import OriginKind, append
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import EPOCH_MILLISECONDS, microseconds
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.landing import Messages

MessageRecord = tuple[int, bytes | None, bytes]
"""(milliseconds since 1970-01-01 UTC, key, value)"""


class LogAppender:
    """One connection to the warehouse, opened when it is needed first.

    Args:
        warehouse_url: of a role that may append.
        catalog: whose contracts the messages are checked against.
        clock: the current time, aware.
    """

    def __init__(
        self, warehouse_url: str, catalog: Catalog, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._url = warehouse_url
        self._catalog = catalog
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._decoders: dict[str, MessageDecoder] = {}

    def append(
        self,
        contract: str,
        records: Iterable[MessageRecord],
        kind: OriginKind = "history",
        chunk_key: str | None = None,
        note: str | None = None,
    ) -> int:
        """Append messages in one transaction.

        Args:
            contract: name of a landed dataset.
            chunk_key: what was appended under it before is not appended again.
            note: tells the origin from others of its kind.

        Returns:
            Rows appended, 0 for a chunk that is in the log already.

        Raises:
            SourceUnavailable: the warehouse does not answer; nothing was appended.
        """
        if contract not in self._decoders:
            self._decoders[contract] = MessageDecoder(self._catalog.landed[contract], self._catalog.start)
        decoder, now = self._decoders[contract], microseconds(self._clock())
        with available("warehouse"), self._open().transaction():
            connection = self._open()
            if chunk_key is not None:
                # Two that append the same chunk wait for each other here, and the second finds it done.
                connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended('landing chunk ' || %s, 0))",
                    (f"{contract} {chunk_key}",),
                )
                done = connection.execute(
                    "SELECT 1 FROM landing.chunks WHERE contract = %s AND chunk_key = %s", (contract, chunk_key)
                ).fetchone()
                if done:
                    return 0
            given = list(records)
            if not given:
                return 0
            sent = [(milliseconds - EPOCH_MILLISECONDS) * 1000 for milliseconds, _, _ in given]
            values = [value for _, _, value in given]
            messages = Messages.of(values, sent, keys=[key for _, key, _ in given])
            envelopes = decoder.envelopes(values, sent, now)
            appended = append(connection, contract, kind, messages, envelopes, landed_at=now, note=note)
            if chunk_key is not None:
                connection.execute(
                    "INSERT INTO landing.chunks (contract, chunk_key, origin_id, rows) VALUES (%s, %s, %s, %s)",
                    (contract, chunk_key, appended.origin_id, appended.count),
                )
        return appended.count

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                driver_url(self._url), application_name="incident-pipelines append", connect_timeout=10, autocommit=True
            )
        return self._connection
