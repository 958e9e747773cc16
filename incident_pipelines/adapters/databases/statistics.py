"""What the planner knows of raw tables: autovacuum brings it up to date within minutes, marts read them at once."""

from collections.abc import Mapping

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.identifiers import quoted

_LOCK_NOT_AVAILABLE = "55P03"


def renew_statistics(warehouse: Engine, changed: Mapping[str, int]) -> None:
    """Analyze the raw tables of which much has changed; a role without MAINTAIN on one leaves it to autovacuum.

    Args:
        changed: number of changed rows by dataset.
    """
    if not any(changed.values()):
        return
    values = {"datasets": list(changed), "changed": list(changed.values())}
    with warehouse.connect() as connection:
        outgrown = connection.execute(query("outgrown_statistics"), values).scalars().all()
    for dataset in outgrown:
        try:
            with warehouse.begin() as connection:
                # Autovacuum gives way after a second; for a person's VACUUM nobody has to wait.
                connection.execute(text("SET LOCAL lock_timeout = '10s'"))
                connection.execute(text(f"ANALYZE {quoted('raw', dataset)}"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
