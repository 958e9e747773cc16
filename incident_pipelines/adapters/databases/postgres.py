"""PostgreSQL through SQLAlchemy and psycopg 3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import InterfaceError, OperationalError

from incident_pipelines.core.errors import SourceUnavailable

_CONFLICTS = ("40", "55")
"""SQLSTATE classes: transaction rollback (deadlock, serialization failure), object not in prerequisite state (lock)."""
SCHEMA_FILES = Path(__file__).parent / "schema"


def postgres_engine(url: str, application_name: str, pool_size: int = 5) -> Engine:
    """Return an engine for a PostgreSQL URL.

    Args:
        url: SQLAlchemy URL; ``postgresql://`` is taken for psycopg 3.
        application_name: shown in pg_stat_activity, so that a person sees who holds a lock; at most 63 bytes count.
        pool_size: connections kept.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(
        parsed,
        pool_size=pool_size,
        pool_pre_ping=True,
        connect_args={"application_name": application_name[:63], "connect_timeout": 10},
    )


def driver_url(url: str) -> str:
    """Return the URL as psycopg itself takes it: a space in it is no plus sign."""
    address, mark, options = (
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False).partition("?")
    )
    return f"{address}{mark}{options.replace('+', '%20')}"


PLANNER = "planner"
"""Role that can only read: what plans runs under it."""


def reading_url(url: str) -> str:
    """Return the URL for sessions that cannot write: as the role `planner` where the server knows it, and read-only.

    Raises:
        SourceUnavailable: the server does not answer.
    """
    options = "-c default_transaction_read_only=on"
    with available("database"), psycopg.connect(driver_url(url), connect_timeout=10) as connection:
        usable = "SELECT 1 FROM pg_roles WHERE rolname = %s AND pg_has_role(oid, 'SET')"
        if connection.execute(usable, (PLANNER,)).fetchone():
            options += f" -c role={PLANNER}"
    return make_url(url).update_query_dict({"options": options}).render_as_string(hide_password=False)


@contextmanager
def available(what: str) -> Iterator[None]:
    """Turn a lost or refused connection into SourceUnavailable, which says nothing about data.

    What a database answers because of other transactions passes through: it is there.

    Args:
        what: the database, as the message names it.

    Raises:
        SourceUnavailable: the database could not be reached or went away.
    """
    try:
        yield
    except (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError) as error:
        if (getattr(getattr(error, "orig", error), "sqlstate", None) or "")[:2] in _CONFLICTS:
            raise
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise SourceUnavailable(f"{what} cannot be reached: {cause[0] if cause else error}") from error
