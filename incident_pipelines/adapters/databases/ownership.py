"""One owner at a time, until its transaction or connection ends; whoever comes meanwhile learns the owner's name."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.databases.statements import query

_LOCK_NOT_AVAILABLE = "55P03"
_UNKNOWN = "another session that has just ended"


def take_lock(
    connection: Connection,
    database: Engine,
    first_statement: TextClause,
    lock_key: int,
    owner: str,
    wait_seconds: float,
) -> str | None:
    """Become the owner of an advisory lock until the transaction ends.

    Args:
        database: of the connection; another connection is asked who the owner is when this one has failed.
        first_statement: takes `owner` as the name that others see, and tries for `lock_key` once.
        owner: shown to whoever wants the lock meanwhile; the first 63 bytes count.
        wait_seconds: how long to wait for another owner; 0 does not wait.

    Returns:
        None once it is ours; else who still has it. The transaction may then only be rolled back.
    """
    if connection.execute(first_statement, {"owner": owner, "lock_key": lock_key}).one().taken:
        return None
    holder = _holder(connection, lock_key)
    if wait_seconds > 0:
        connection.execute(
            text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": f"{int(wait_seconds * 1000) or 1}ms"}
        )
        try:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock_key)"), {"lock_key": lock_key})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            with database.connect() as other:
                holder = _holder(other, lock_key) or holder
        else:
            connection.execute(text("SELECT set_config('lock_timeout', '0', true)"))
            return None
    return holder or _UNKNOWN


@contextmanager
def sole_owner(database: Engine, lock_key: int) -> Iterator[str | None]:
    """Own an advisory lock for the length of the block, or as long as its connection lives; nobody is waited for.

    Args:
        database: whose `application_name` is shown to whoever wants the lock meanwhile.

    Yields:
        None where it is ours; else who has it.
    """
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        taken = connection.execute(text("SELECT pg_try_advisory_lock(:lock_key)"), {"lock_key": lock_key}).scalar_one()
        if not taken:
            yield _holder(connection, lock_key) or _UNKNOWN
            return
        try:
            yield None
        finally:
            with suppress(DBAPIError):  # a connection that is cut has let go of it
                connection.execute(text("SELECT pg_advisory_unlock(:lock_key)"), {"lock_key": lock_key})


def _holder(connection: Connection, lock_key: int) -> str | None:
    return connection.execute(query("lock_holder"), {"lock_key": lock_key}).scalar()
