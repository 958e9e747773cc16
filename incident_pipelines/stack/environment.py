"""The addresses that each process gets: one role for each process, under the same variable names."""

from collections.abc import Mapping

from incident_pipelines.stack.locations import HOME_VARIABLE, Home
from incident_pipelines.stack.postgres import SUPERUSER, PostgresServer
from incident_pipelines.stack.state import START_VARIABLE

DATABASE_VARIABLES = {
    "app": "APP_DATABASE_URL",
    "billing": "BILLING_DATABASE_URL",
    "warehouse": "WAREHOUSE_URL",
    "control": "CONTROL_DATABASE_URL",
}
DAGSTER_VARIABLE = "DAGSTER_POSTGRES_URL"
KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
AUDIT_LOG_VARIABLE = "APP_AUDIT_LOG"

# Program role → database → the PostgreSQL role it connects as.
ROLE_DATABASES: Mapping[str, Mapping[str, str]] = {
    "owner": dict.fromkeys(DATABASE_VARIABLES, SUPERUSER),
    "lander": {"warehouse": "lander", "control": "lander"},
    "monitor": {"warehouse": "monitor", "control": "monitor"},
    "publisher": {
        "warehouse": "publisher",
        "control": "publisher",
        "app": "source_reader",
        "billing": "source_reader",
    },
    "app_service": {"app": "app_service"},
    "billing_service": {"billing": "billing_service"},
}


def environment_for(
    role: str | None, home: Home, server: PostgresServer, bootstrap_servers: str, start: str
) -> dict[str, str]:
    """The variables of a process with a role.

    Args:
        role: A key of `ROLE_DATABASES`, or None for a process that needs no database.
        bootstrap_servers: HOST:PORT of Kafka.
        start: First day of the partitions, ISO date.
    """
    variables = {HOME_VARIABLE: str(home.path), KAFKA_VARIABLE: bootstrap_servers, START_VARIABLE: start}
    for database, login in ROLE_DATABASES[role].items() if role else ():
        variables[DATABASE_VARIABLES[database]] = server.url(database, login)
    if role in ("publisher", "owner"):
        variables[AUDIT_LOG_VARIABLE] = str(home.app_audit_log)
        # Dagster's own storage works with psycopg2 only.
        login = SUPERUSER if role == "owner" else "dagster"
        variables[DAGSTER_VARIABLE] = server.url("dagster", login, driver="psycopg2")
        variables["DAGSTER_HOME"] = str(home.dagster)
    return variables
