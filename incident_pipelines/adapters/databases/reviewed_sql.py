"""Runs a reviewed SELECT of the catalog on any source: in a read-only snapshot, within a time limit, values bound."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import psycopg
from sqlalchemy import Connection, RowMapping, TextClause, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.core.errors import SourceUnavailable

STATEMENT_TIMEOUT_SECONDS = 300.0
FETCHED_ROWS = 1_000
"""Rows fetched at once: as many as fit a processor's cache are read a third faster than five times as many."""

_TOTALS = """
SELECT coalesce(currency, '') AS currency, count(*) AS items, coalesce(sum(amount), 0) AS money, min(since) AS oldest,
       sum(CASE WHEN since < :due THEN 1 ELSE 0 END) AS overdue,
       coalesce(sum(CASE WHEN since < :due THEN amount END), 0) AS overdue_money
FROM (
{statement}
) AS items
GROUP BY coalesce(currency, '')
ORDER BY 1
"""


def read_rows(
    url: str,
    source: str,
    statement: str,
    values: Mapping[str, Any],
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
) -> list[RowMapping]:
    """Return the rows of a statement.

    Args:
        url: SQLAlchemy URL.
        source: name of the source, for messages.
        statement: one SELECT; only the values that it has binds for are given to it.

    Raises:
        SourceUnavailable: the source does not answer, not in time, or not to this statement.
    """
    bound, used = bind(statement, values)
    with read_snapshot(url, source, timeout_seconds) as connection:
        return list(connection.execute(bound, used).mappings())


def stream_rows(
    url: str,
    source: str,
    statement: str,
    values: Mapping[str, Any],
    columns: Sequence[str],
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement, all of one snapshot, with bounded memory.

    Args:
        columns: which of its columns, in this order; at least two.
        others: as of `read_rows`.

    Raises:
        SourceUnavailable: as `read_rows`.
    """
    bound, used = bind(statement, values)
    with read_snapshot(url, source, timeout_seconds) as connection:
        result = connection.execution_options(stream_results=True, max_row_buffer=FETCHED_ROWS).execute(bound, used)
        chosen = itemgetter(*map(list(result.keys()).index, columns))
        for page in result.partitions(FETCHED_ROWS):
            yield from map(chosen, page)


def read_item_totals(url: str, source: str, statement: str, values: Mapping[str, Any]) -> list[RowMapping]:
    """Return currency, items, money, oldest, overdue and overdue_money of a SELECT of item, since, amount, currency.

    Args:
        values: with ``due``: an item from before it is overdue.

    Raises:
        SourceUnavailable: as `read_rows`.
    """
    return read_rows(url, source, _TOTALS.format(statement=statement.strip().rstrip(";")), values)


def bind(statement: str, values: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """Return a statement and those of the values that it has binds for."""
    bound = text(statement)
    wanted = bound.compile().params
    return bound, {name: value for name, value in values.items() if name in wanted}


@contextmanager
def read_snapshot(url: str, source: str, timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS) -> Iterator[Connection]:
    """Give a connection on which everything is read of one moment, and nothing can be changed.

    Raises:
        SourceUnavailable: as `read_rows`.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    try:
        with available(f"{source} database"), engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.execute(
                        text("SELECT set_config('statement_timeout', :timeout, true)"),
                        {"timeout": f"{int(timeout_seconds * 1000)}ms"},
                    )
                yield connection
    except (DBAPIError, psycopg.Error) as error:
        first_line = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise SourceUnavailable(f"{source} database cannot be read: {first_line}") from error
    except SQLAlchemyError as error:
        raise SourceUnavailable(f"{source} database cannot be read: {error}") from error
    finally:
        engine.dispose()
