"""The door into the landing log that history takes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.example.settings import InvalidSetting
from incident_pipelines.example.sinks import AppendToLog, LogRecord


@contextmanager
def landing_log(environment: Mapping[str, str]) -> Iterator[AppendToLog]:
    """Give a function that appends history to the log of a contract.

    Args:
        environment: WAREHOUSE_URL and what names the catalog.

    Raises:
        InvalidSetting: no warehouse is named.
    """
    # Imported here: simulating into Kafka needs nothing of the landing.
    from incident_pipelines.stages.landing.append import LogAppender

    url = environment.get("WAREHOUSE_URL")
    if not url:
        raise InvalidSetting("WAREHOUSE_URL is not set: --via log writes into the warehouse's landing log")
    appender = LogAppender(url, load_catalog(environment))

    def append(contract: str, records: Iterable[LogRecord], chunk_key: str) -> int:
        return appender.append(contract, records, kind="history", chunk_key=chunk_key)

    try:
        yield append
    finally:
        appender.close()
