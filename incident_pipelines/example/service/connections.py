"""A few connections that are used again, and dropped once anything goes wrong with them."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.databases import connect, database_name


class Connections:
    """Connections to one database, each in one transaction at a time.

    Args:
        url: SQLAlchemy URL.
        application: name that the server shows.
        statement_timeout_seconds: after which the server ends a statement.
        size: connections kept.
    """

    def __init__(self, url: str, application: str, statement_timeout_seconds: float = 5.0, size: int = 8) -> None:
        self._url = url
        self._application = application
        self._timeout_ms = int(statement_timeout_seconds * 1000)
        self._idle: queue.LifoQueue[psycopg.Connection] = queue.LifoQueue(size)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """Give a connection inside a transaction, committed at the end.

        Raises:
            SourceUnavailable: the database does not answer; whether a commit under way was done is not known.
        """
        connection = self._take()
        try:
            with connection.transaction():
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            connection.close()
            raise SourceUnavailable(f"database {database_name(self._url)}: {error}".strip()) from error
        except BaseException:
            connection.close()
            raise
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> psycopg.Connection:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = connect(self._url, autocommit=True, application=self._application)
                connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(self._timeout_ms),))
                return connection
            try:
                # A server that restarted has closed it meanwhile.
                connection.execute("SELECT 1")
                return connection
            except psycopg.Error:
                connection.close()
