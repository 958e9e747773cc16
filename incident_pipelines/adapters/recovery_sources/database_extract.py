"""A database that keeps the originals, like an outbox: a reviewed SELECT gives them back under their own ids."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError

from incident_pipelines.adapters.databases.originals import milliseconds, stream_originals
from incident_pipelines.adapters.databases.reviewed_sql import read_rows
from incident_pipelines.adapters.databases.source_table import SourceTable
from incident_pipelines.adapters.recovery_sources.source import (
    Found,
    Problems,
    Replayable,
    decoded,
    in_window,
    problem_at,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.images import image_of
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.recovery.coverage import DATABASE_EXTRACT, Coverage, counted, silent, unusable
from incident_pipelines.core.recovery.declaration import KEPT_SINCE, DatabaseExtract
from incident_pipelines.core.windows import TimeWindow

PAGE_ROWS = 5_000

_COUNT = "SELECT count(DISTINCT event_id) AS events{oldest} FROM (\n{statement}\n) AS originals"


class DatabaseExtractSource:
    """Originals of event streams by the catalog's SQL; rows of a table as the table has them now.

    Args:
        environment: with the variables of the catalog's sources.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._environment = environment

    def coverage(self, dataset: str, windows: Sequence[TimeWindow]) -> list[Coverage]:
        """Return how many events, or rows, of each window the database has."""
        try:
            extract = self._declared(dataset)
            if extract is not None:
                return [self._counted(dataset, extract, window) for window in windows]
            contract = self._catalog.landed[dataset]
            if isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource):
                reasons = ["the newest image of each row, not those before it"]
                return [
                    counted(DATABASE_EXTRACT, dataset, window, self._rows(contract, window), reasons=reasons)
                    for window in windows
                ]
        except SourceUnavailable as error:
            # What the database answers about the statement holds until somebody mends it; silence is an outage.
            told = unusable if isinstance(error.__cause__, ProgrammingError) else silent
            return told(DATABASE_EXTRACT, dataset, windows, str(error))
        reason = f"the catalog's recovery/{dataset}.yaml declares no database_extract"
        return unusable(DATABASE_EXTRACT, dataset, windows, reason)

    def replayable(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Replayable]:
        """Yield the originals in the order of the SELECT, or the rows as they are now."""
        extract = self._declared(dataset)
        contract = self._catalog.landed[dataset]
        if extract is not None:
            found = self._originals(dataset, extract, window, problems)
        elif isinstance(contract, RowsContract):
            found = self._images(contract, window)
        else:
            raise SourceUnavailable(f"the catalog's recovery/{dataset}.yaml declares no database_extract")
        yield from in_window(decoded(self._catalog, dataset, found, problems), window)

    def _declared(self, dataset: str) -> DatabaseExtract | None:
        recovery = self._catalog.recoveries.get(dataset)
        return recovery.database_extract if recovery else None

    def _counted(self, dataset: str, extract: DatabaseExtract, window: TimeWindow) -> Coverage:
        oldest = f", min({KEPT_SINCE}) AS oldest" if extract.kept else ""
        statement = _COUNT.format(oldest=oldest, statement=self._sql(extract))
        (row,) = read_rows(self._url(extract.source), extract.source, statement, _values(window))
        until = _until(row.get("oldest"), extract.kept)
        return counted(DATABASE_EXTRACT, dataset, window, int(row["events"]), until=until)

    def _originals(
        self, dataset: str, extract: DatabaseExtract, window: TimeWindow, problems: Problems
    ) -> Iterator[Found]:
        rows = stream_originals(self._url(extract.source), extract.source, self._sql(extract), _values(window))
        for event_id, sent, key, value in rows:
            place = (extract.source, ": ", dataset, " ", event_id)
            if value is None:
                problems(problem_at(place, "has no value"))
                continue
            yield sent, key, value, place

    def _images(self, contract: RowsContract, window: TimeWindow) -> Iterator[Found]:
        assert isinstance(contract.origin, TableSource)
        engine = create_engine(self._url(contract.origin.source))
        image = image_of(contract)
        names = [column.name for column in contract.columns]
        time = names.index(contract.time_column) if contract.time_column else None
        try:
            for page in SourceTable(engine, contract, PAGE_ROWS).created_in(window):
                for row in page:
                    key, value = image(row)
                    sent = None if time is None else milliseconds(row[time])
                    yield sent, None, value, (contract.origin.table, " ", key)
        finally:
            engine.dispose()

    def _rows(self, contract: RowsContract, window: TimeWindow) -> int:
        return sum(1 for _ in self._images(contract, window))

    def _sql(self, extract: DatabaseExtract) -> str:
        return self._catalog.recovery_sql[extract.sql].strip().rstrip(";")

    def _url(self, source: str) -> str:
        variable = self._catalog.sources[source]
        url = self._environment.get(variable)
        if not url:
            raise SourceUnavailable(f"source {source} cannot be read: {variable} is not set")
        return url


def _values(window: TimeWindow) -> dict[str, datetime]:
    return {"window_start": window.start, "window_end": window.end}


def _until(oldest: Any, kept: timedelta | None) -> datetime | None:
    if kept is None or not isinstance(oldest, datetime):
        return None
    return (oldest.replace(tzinfo=UTC) if oldest.tzinfo is None else oldest.astimezone(UTC)) + kept
