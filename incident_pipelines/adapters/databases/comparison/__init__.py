"""Tables to compare, one module for each engine."""

from sqlalchemy import make_url

from incident_pipelines.adapters.databases.comparison.table import ComparedTable, TableRef


def open_table(ref: TableRef, statement_timeout_seconds: float) -> ComparedTable:
    """Open one side of a comparison.

    Args:
        statement_timeout_seconds: longest time a statement may take.

    Raises:
        SourceUnavailable: the database does not answer.
        InvalidComparison: the table is not there, or a driver is missing.
    """
    match make_url(ref.url).get_backend_name():
        case "postgresql" | "postgres":
            from incident_pipelines.adapters.databases.comparison.postgres import PostgresTable

            return PostgresTable(ref, statement_timeout_seconds)
        case "duckdb":
            from incident_pipelines.adapters.databases.comparison.duckdb import DuckdbTable

            return DuckdbTable(ref, statement_timeout_seconds)
        case "sqlite":
            from incident_pipelines.adapters.databases.comparison.sqlite import SqliteTable

            return SqliteTable(ref, statement_timeout_seconds)
        case _:
            from incident_pipelines.adapters.databases.comparison.spooled import SpooledTable

            return SpooledTable(ref, statement_timeout_seconds)
