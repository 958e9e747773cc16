"""Makes what the catalog declares: schemas and tables of the warehouse and the control database."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import SCHEMA_FILES, available, postgres_engine
from incident_pipelines.adapters.databases.protection import protection_ddl
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.ddl import dead_letters_ddl, landing_ddl, published_ddl
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.reconciliation.catalog import index_ddl

_PREPARE_LOCK = 0x1C1D_0001  # any constant of our own: two preparations must not race on CREATE … IF NOT EXISTS


def prepare(environment: Mapping[str, str]) -> Catalog:
    """Make or complete the tables of warehouse and control database; repeatable.

    Args:
        environment: WAREHOUSE_URL and CONTROL_DATABASE_URL of a role that may create, and the catalog's variables.

    Returns:
        The catalog that the tables were made for.

    Raises:
        InvalidDocument: the catalog is wrong.
        SourceUnavailable: a database does not answer.
    """
    catalog = load_catalog(environment)
    prepare_warehouse(environment["WAREHOUSE_URL"], catalog)
    prepare_control(environment["CONTROL_DATABASE_URL"])
    return catalog


def prepare_warehouse(url: str, catalog: Catalog) -> None:
    """Make or complete the warehouse's schemas, tables and grants."""
    engine = postgres_engine(url, "incident-pipelines prepare")
    with available("warehouse"), engine.begin() as connection:
        _run_file(connection, "warehouse.sql")
        _run_file(connection, "protection.sql")
        for contract in catalog.landed.values():
            for statement in (*landing_ddl(contract), *published_ddl(contract)):
                connection.execute(text(statement))
        for mart in catalog.marts.values():
            for statement in published_ddl(mart.contract):
                connection.execute(text(statement))
        for contract in (*catalog.landed.values(), *(mart.contract for mart in catalog.marts.values())):
            for statement in protection_ddl(contract):
                connection.execute(text(statement))
        contracts = {**catalog.landed, **{name: mart.contract for name, mart in catalog.marts.items()}}
        for declared in catalog.reconciliations.values():
            for statement in index_ddl(declared, catalog.reconciliation_sql, contracts):
                connection.execute(text(statement))
        if catalog.landed:
            connection.execute(text(dead_letters_ddl(catalog.landed.values())))
        _grant_warehouse(connection, catalog)
    engine.dispose()


def prepare_control(url: str) -> None:
    """Make or complete the control database's schemas and grants."""
    engine = postgres_engine(url, "incident-pipelines prepare")
    with available("control database"), engine.begin() as connection:
        _run_file(connection, "control.sql")
        _run_file(connection, "incidents.sql")
        if _has_role(connection, "monitor"):
            _run_file(connection, "control_grants.sql")
            _run_file(connection, "incidents_grants.sql")
    engine.dispose()


def _run_file(connection: Connection, name: str) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _PREPARE_LOCK})
    # Without parameters a percent sign is one.
    statements = (SCHEMA_FILES / name).read_text(encoding="utf-8")
    connection.execution_options(no_parameters=True).exec_driver_sql(statements)


def _grant_warehouse(connection: Connection, catalog: Catalog) -> None:
    """Give each role what it needs and no more, where the roles exist (a user's own server may have none of them)."""
    if not _has_role(connection, "lander"):
        return
    _run_file(connection, "warehouse_grants.sql")
    for name in catalog.landed:
        connection.execute(text(f"GRANT SELECT, INSERT ON {quoted('landing', name)} TO lander, publisher"))
        connection.execute(text(f"GRANT SELECT ON {quoted('landing', name)} TO monitor, planner"))


def _has_role(connection: Connection, role: str) -> bool:
    return connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first() is not None
