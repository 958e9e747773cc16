"""Where a command finds the databases and the broker."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from sqlalchemy import Engine


def addresses(*names: str) -> dict[str, str]:
    """Return the environment; where an address is missing, that of the local stack, if there is one.

    Args:
        names: variables the command needs.

    Raises:
        IncidentPipelinesError: one is neither set nor known from a local stack.
    """
    variables = dict(os.environ)
    missing = [name for name in names if not variables.get(name)]
    if missing:
        variables = _stack_addresses() | variables
    still_missing = [name for name in names if not variables.get(name)]
    if still_missing:
        raise IncidentPipelinesError(
            f"{', '.join(still_missing)} not set, and no local stack runs here; set it, or run `incident-pipelines up`"
        )
    return variables


def control_database(owner: str) -> "AbstractContextManager[Engine]":
    """Give an engine of the control database, for one command.

    Args:
        owner: of its connections, as the database shows it.

    Raises:
        IncidentPipelinesError: its address is not known, or it refuses because it was not prepared.
    """
    return _database("control database", "CONTROL_DATABASE_URL", owner)


def warehouse_database(owner: str) -> "AbstractContextManager[Engine]":
    """Give an engine of the warehouse, as `control_database` does."""
    return _database("warehouse", "WAREHOUSE_URL", owner)


@contextmanager
def _database(name: str, variable: str, owner: str) -> "Iterator[Engine]":
    from sqlalchemy.exc import ProgrammingError

    from incident_pipelines.adapters.databases.postgres import postgres_engine

    engine = postgres_engine(addresses(variable)[variable], owner, pool_size=1)
    try:
        yield engine
    except ProgrammingError as error:  # no such table, no such right: said by the database in one line
        cause = str(error.orig).strip().splitlines()[0]
        raise IncidentPipelinesError(f"the {name} refuses: {cause}; was it prepared by `up`?") from error
    finally:
        engine.dispose()


def _stack_addresses() -> dict[str, str]:
    try:
        from incident_pipelines.stack.commands import running_environment
    except ImportError:  # installed without the extra `stack`
        return {}
    return running_environment()
