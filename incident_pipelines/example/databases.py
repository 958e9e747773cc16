"""The example's own databases: connections, tables, and the statements kept in files beside this module."""

from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.plans import BASE_CURRENCY, PLANS
from incident_pipelines.example.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5
_PACKAGE = "incident_pipelines.example"


def connect(url: str, *, autocommit: bool = False, application: str = "example") -> psycopg.Connection:
    """Open a connection.

    Args:
        url: SQLAlchemy URL of a PostgreSQL database.
        autocommit: whether each statement is a transaction.
        application: name that the server shows.

    Raises:
        SourceUnavailable: the server does not answer.
    """
    conninfo = "postgresql://" + url.split("://", 1)[-1]
    try:
        return psycopg.connect(
            conninfo,
            autocommit=autocommit,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=application,
            options="-c TimeZone=UTC",
        )
    except psycopg.OperationalError as error:
        raise SourceUnavailable(f"database {database_name(url)} does not answer: {error}".strip()) from error


def database_name(url: str) -> str:
    """Return host, port and database of a URL, without user and password."""
    return url.split("://", 1)[-1].rsplit("@", 1)[-1].split("?", 1)[0]


@cache
def statement(name: str) -> LiteralString:
    """Return the statement in ``sql/NAME.sql``; these files are code, never input."""
    return cast(LiteralString, (files(_PACKAGE) / "sql" / f"{name}.sql").read_text(encoding="utf-8"))


def create_tables(settings: Settings) -> None:
    """Create the tables of both databases and the plans; may be run again.

    Raises:
        SourceUnavailable: a server does not answer.
    """
    for url, owner, names in (
        (settings.app_url, "app_service", ("app", "outbox", "access")),
        (settings.billing_url, "billing_service", ("billing", "outbox", "access")),
    ):
        with connect(url) as connection:
            # Two starts at once must not race for the same CREATE.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('example schema'))")
            _become_owner(connection, owner)
            for name in names:
                ddl = (files(_PACKAGE) / "schema" / f"{name}.sql").read_text(encoding="utf-8")
                connection.execute(cast(LiteralString, ddl))
            if owner == "app_service":
                rows = [(plan.plan_id, plan.name, BASE_CURRENCY, plan.prices[BASE_CURRENCY]) for plan in PLANS]
                connection.cursor().executemany(statement("insert_plan"), rows)


def _become_owner(connection: psycopg.Connection, owner: str) -> None:
    """The service owns its tables also where the superuser makes them."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s) AND current_user <> %s"
        " AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        (owner, owner),
    ).fetchone()
    if row and row[0]:
        connection.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                sql.Identifier(connection.info.dbname), sql.Identifier(owner)
            )
        )
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
