"""The addresses that each process gets: one role for each process, under the same variable names."""

from collections.abc import Mapping

from incident_pipelines.adapters.processes import SUPERVISOR_VARIABLE
from incident_pipelines.stack.locations import HOME_VARIABLE, Home
from incident_pipelines.stack.own_catalog import EVERYBODYS, KAFKA_VARIABLE, SQL_VARIABLE
from incident_pipelines.stack.ports import HOST
from incident_pipelines.stack.postgres import EXAMPLE_DATABASES, SUPERUSER, PostgresServer
from incident_pipelines.stack.state import START_VARIABLE, StackState

DATABASE_VARIABLES = {
    "app": "APP_DATABASE_URL",
    "billing": "BILLING_DATABASE_URL",
    "warehouse": "WAREHOUSE_URL",
    "control": "CONTROL_DATABASE_URL",
}
DAGSTER_VARIABLE = "DAGSTER_POSTGRES_URL"
AUDIT_LOG_VARIABLE = "APP_AUDIT_LOG"
APP_SERVICE_VARIABLE = "APP_SERVICE_URL"
APP_SERVICE_PORT = "app_service"

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
    role: str | None, home: Home, server: PostgresServer, bootstrap_servers: str, state: StackState
) -> dict[str, str]:
    """The variables of a process with a role.

    Args:
        role: A key of `ROLE_DATABASES`, or None for a process that needs no database.
        bootstrap_servers: HOST:PORT of Kafka.
        state: Says when the partitions start, and what a catalog of one's own brings.
    """
    variables = {HOME_VARIABLE: str(home.path), KAFKA_VARIABLE: bootstrap_servers}
    variables |= {name: state.own[name] for name in EVERYBODYS if name in state.own}
    if not state.own:  # one's own catalog says itself when it starts
        variables[START_VARIABLE] = state.start
        if home.sql.is_dir():
            variables[SQL_VARIABLE] = str(home.sql)
    for database, login in ROLE_DATABASES[role].items() if role else ():
        if database not in EXAMPLE_DATABASES or state.has_example_databases:
            variables[DATABASE_VARIABLES[database]] = server.url(database, login)
    if role in ("publisher", "owner", "app_service") and APP_SERVICE_PORT in state.ports:
        variables[APP_SERVICE_VARIABLE] = f"http://{HOST}:{state.ports[APP_SERVICE_PORT]}"
    if role in ("publisher", "owner"):
        variables[SUPERVISOR_VARIABLE] = str(home.supervisor_socket)
        if state.has_example_databases:
            variables[AUDIT_LOG_VARIABLE] = str(home.app_audit_log)
        variables |= state.own
        # Dagster's own storage works with psycopg2 only.
        login = SUPERUSER if role == "owner" else "dagster"
        variables[DAGSTER_VARIABLE] = server.url("dagster", login, driver="psycopg2")
        variables["DAGSTER_HOME"] = str(home.dagster)
    return variables
