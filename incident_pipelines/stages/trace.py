"""Everything the platform knows about one business case: source, Kafka, landing, quarantine, raw, marts."""

from collections.abc import Mapping

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from incident_pipelines.adapters.databases.postgres import available, postgres_engine
from incident_pipelines.adapters.databases.source_case import rows_of_case
from incident_pipelines.adapters.kafka.readback import read_back
from incident_pipelines.adapters.stores.case_rows import CaseRows
from incident_pipelines.core.case import Case, correlation_value, fits_text
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.trace import Trace, trace_of

_APPLICATION = "incident-pipelines trace"


def trace(catalog: Catalog, environment: Mapping[str, str], correlation_id: str) -> Trace:
    """Look for a case in every place; what does not answer is named, and the rest is looked at.

    Args:
        environment: WAREHOUSE_URL, KAFKA_BOOTSTRAP_SERVERS and the variables of the catalog's sources.
        correlation_id: as a person typed it.
    """
    case = Case(correlation_id)
    if (reason := fits_text(correlation_id)) is not None:
        case.notes.append(f"it cannot be a correlation id: {reason}")
        return trace_of(case, catalog)
    if not _fits_somewhere(catalog, correlation_id):
        case.notes.append("no dataset's correlation id has this form (most likely a UUID is expected)")
    _look_into_sources(catalog, environment, case)
    _look_into_warehouse(catalog, environment, case)
    _look_into_kafka(environment, case)
    return trace_of(case, catalog)


def _fits_somewhere(catalog: Catalog, correlation_id: str) -> bool:
    contracts = [*catalog.landed.values(), *(mart.contract for mart in catalog.marts.values())]
    return any(
        contract.correlation_id
        and correlation_value(contract.column(contract.correlation_id), correlation_id) is not None
        for contract in contracts
    )


def _look_into_sources(catalog: Catalog, environment: Mapping[str, str], case: Case) -> None:
    engines: dict[str, Engine] = {}
    for contract in catalog.landed.values():
        match contract:
            case RowsContract(origin=TableSource(source=source), correlation_id=str(name)):
                value = correlation_value(contract.column(name), case.correlation_id)
            case _:
                continue
        if value is None or source in case.unavailable:
            continue
        try:
            if source not in engines:
                engines[source] = _engine(environment, catalog.sources[source])
            case.source_rows += rows_of_case(engines[source], contract, value)
        except SourceUnavailable as error:
            case.unavailable[source] = str(error)
    for engine in engines.values():
        engine.dispose()


def _look_into_warehouse(catalog: Catalog, environment: Mapping[str, str], case: Case) -> None:
    try:
        engine = _engine(environment, "WAREHOUSE_URL")
        with available("warehouse"), engine.connect() as connection:
            snapshot = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with snapshot.begin():
                CaseRows(snapshot, catalog, case).read()
    except SourceUnavailable as error:
        case.unavailable["warehouse"] = str(error)
    except DBAPIError as error:  # a table is missing or may not be read
        case.unavailable["warehouse"] = f"warehouse cannot be read: {str(error.orig).strip().splitlines()[0]}"
    else:
        engine.dispose()


def _look_into_kafka(environment: Mapping[str, str], case: Case) -> None:
    servers = environment.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        case.unavailable["kafka"] = "KAFKA_BOOTSTRAP_SERVERS is not set"
        return
    if "warehouse" in case.unavailable:
        case.notes.append("Kafka was not looked at: which offsets hold the case is known to the warehouse alone")
        return
    try:
        case.records = read_back(servers, case.log_rows.values())
    except SourceUnavailable as error:
        case.unavailable["kafka"] = str(error)


def _engine(environment: Mapping[str, str], variable: str) -> Engine:
    url = environment.get(variable)
    if not url:
        raise SourceUnavailable(f"{variable} is not set")
    try:
        if make_url(url).get_backend_name() == "postgresql":
            return postgres_engine(url, _APPLICATION, pool_size=1)
        return create_engine(url)
    except (SQLAlchemyError, ImportError) as error:
        # The message of a broken URL would show its password.
        raise SourceUnavailable(f"{variable} cannot be used as a database URL ({type(error).__name__})") from error
