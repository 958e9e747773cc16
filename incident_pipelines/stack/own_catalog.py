"""A catalog of one's own in the stack: its folders, the addresses of its sources, its Kafka."""

from collections.abc import Mapping
from pathlib import Path

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.incidents.modes import MODE_VARIABLE
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.state import START_VARIABLE

CATALOG_VARIABLE = "INCIDENT_PIPELINES_CATALOG"
SQL_VARIABLE = "INCIDENT_PIPELINES_SQL"
KAFKA_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

EVERYBODYS = (CATALOG_VARIABLE, SQL_VARIABLE, START_VARIABLE, MODE_VARIABLE)
"""What every process gets; the rest is for those that read sources."""

_OF_THE_STACK = frozenset({"WAREHOUSE_URL", "CONTROL_DATABASE_URL", "DAGSTER_POSTGRES_URL", KAFKA_VARIABLE})
_ANSWER_SECONDS = 10.0


def own_variables(environment: Mapping[str, str], example: bool) -> dict[str, str]:
    """The variables that a stack with a catalog of one's own has to remember; none for the catalog that ships.

    Args:
        environment: INCIDENT_PIPELINES_CATALOG and INCIDENT_PIPELINES_SQL name the folders.
        example: Whether the example takes part, whose databases the stack makes.

    Raises:
        StackError: A folder is missing, the catalog is wrong, or the address of a source is not set.
    """
    from incident_pipelines.adapters.catalog_files import load_catalog

    if not environment.get(CATALOG_VARIABLE):
        return {}
    own = {name: environment[name] for name in EVERYBODYS if environment.get(name)}
    for name in (CATALOG_VARIABLE, SQL_VARIABLE):
        # The processes run elsewhere than this command.
        folder = Path(own.get(name, "")).expanduser().resolve()
        if name not in own or not folder.is_dir():
            raise StackError(
                f"{CATALOG_VARIABLE} is set, but {name} names no folder" + (f": {folder}" if name in own else ""),
                "set both to folders of yours; `incident-pipelines init` writes them into .env.example",
            )
        own[name] = str(folder)
    try:
        catalog = load_catalog(own)
    except IncidentPipelinesError as error:
        raise StackError(str(error)) from error
    for what, name in _addresses_of(catalog):
        if name in _OF_THE_STACK:
            raise StackError(f"{what} stands in {name}, which the stack sets itself", "give it a variable of its own")
        if environment.get(name):
            own[name] = environment[name]
        elif not example:
            raise StackError(
                f"{what} cannot be reached: {name} is not set",
                f"set it as in {own[CATALOG_VARIABLE]}/.env.example, and start again",
            )
    if environment.get(KAFKA_VARIABLE):
        own[KAFKA_VARIABLE] = environment[KAFKA_VARIABLE]
    return own


def require_kafka(servers: str) -> None:
    """Make sure that somebody else's Kafka answers.

    Raises:
        StackError: It does not.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=_ANSWER_SECONDS)
    except KafkaException as error:
        raise StackError(
            f"Kafka at {servers} does not answer: {error.args[0]}",
            f"{KAFKA_VARIABLE} names it; without that variable the stack brings a Kafka of its own",
        ) from error


def _addresses_of(catalog: Catalog) -> list[tuple[str, str]]:
    """What the catalog reads, and the variable that says where it is."""
    sources = [(f"source {name}", variable) for name, variable in catalog.sources.items()]
    logs = [
        (f"the audit log of {one.dataset}", one.audit_log.location)
        for one in catalog.recoveries.values()
        if one.audit_log is not None
    ]
    return sources + logs
