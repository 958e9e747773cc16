"""The landing log itself: whatever was landed can be published again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from incident_pipelines.adapters.databases.postgres import available, driver_url
from incident_pipelines.adapters.recovery_sources.source import (
    Found,
    Problems,
    Replayable,
    decoded,
    in_window,
    problem_at,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.recovery.coverage import LANDING_LOG, Coverage, counted, silent
from incident_pipelines.core.windows import TimeWindow

STATEMENT_TIMEOUT_SECONDS = 300
PAGE_ROWS = 5_000

# The same id twice is one event, in however many origins; a dead letter without an id is told apart by its bytes.
_COUNT = """
SELECT w.number, count(DISTINCT l.id) AS events, count(DISTINCT l.id) FILTER (WHERE l.kind = 'topic') AS from_topics
FROM unnest(%s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY AS w (window_start, window_end, number)
JOIN LATERAL (
    SELECT coalesce(event_id, md5(value)) AS id, o.kind
    FROM {log} JOIN landing.origins AS o USING (origin_id)
    WHERE event_time >= w.window_start AND event_time < w.window_end
) AS l ON true
GROUP BY w.number
"""
# By window, as above: told apart over all windows at once, the events would be sorted by what JSON says of each.
_COUNT_SEGMENTS = """
SELECT {names}, count(*)
FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS w (window_start, window_end)
JOIN LATERAL (
    SELECT DISTINCT coalesce(event_id, md5(value)) AS id, {segments}
    FROM {log} WHERE event_time >= w.window_start AND event_time < w.window_end
) AS landed ON true
GROUP BY {names}
"""
_SEGMENT = "CASE WHEN reason IS NULL THEN convert_from(value, 'UTF8')::json ->> {column} END AS {name}"
_READ = """
SELECT origin_id, partition, position,
       (extract(epoch FROM coalesce(kafka_timestamp, event_time)) * 1000)::bigint AS sent, key, value
FROM {log} WHERE event_time >= %s AND event_time < %s
ORDER BY origin_id, partition, position
"""
_GAPS = """
SELECT topic, partition, from_offset, to_offset, coalesce(last_landed_at, 'epoch') AS since, detected_at
FROM landing.gaps WHERE contract = %s ORDER BY gap_id
"""


class LandingLogSource:
    """Counts and reads the log of a dataset.

    Args:
        environment: with WAREHOUSE_URL.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._url = environment.get("WAREHOUSE_URL")

    def events(self, dataset: str, windows: Sequence[TimeWindow]) -> list[int]:
        """Return how many different events of each window were landed.

        Raises:
            SourceUnavailable: the warehouse does not answer, or not in time: that is never taken for none.
        """
        found = self.coverage(dataset, windows)
        for one in found:
            if one.events is None:
                raise SourceUnavailable(f"the log of {dataset} cannot be counted: {one.reason}")
        return [one.events or 0 for one in found]

    def coverage(self, dataset: str, windows: Sequence[TimeWindow]) -> list[Coverage]:
        """Return how many different events of each window were landed; where that is not known, that."""
        try:
            with self._reading() as connection:
                rows = connection.execute(
                    _about(_COUNT, dataset), ([one.start for one in windows], [one.end for one in windows])
                ).fetchall()
                gaps = connection.execute(_GAPS, (dataset,)).fetchall()
        except SourceUnavailable as error:
            return silent(LANDING_LOG, dataset, windows, str(error))
        counts = {number - 1: (events, from_topics) for number, events, from_topics in rows}
        found: list[Coverage] = []
        for number, window in enumerate(windows):
            events, from_topics = counts.get(number, (0, 0))
            reasons = _aged_out(gaps, window)
            found.append(counted(LANDING_LOG, dataset, window, events, reasons=reasons, from_topics=from_topics))
        return found

    def by_segment(
        self, dataset: str, windows: Sequence[TimeWindow], columns: Sequence[str]
    ) -> dict[tuple[str | None, ...], int]:
        """Return how many different events of all windows were landed, by the values of some of their columns.

        A dead letter has no values.

        Args:
            dataset: of events.
            windows: none overlapping another.
            columns: of its contract; at least one.

        Raises:
            SourceUnavailable: the warehouse does not answer.
        """
        names = [sql.Identifier(f"segment_{number}") for number, _ in enumerate(columns)]
        segments = [
            sql.SQL(_SEGMENT).format(column=sql.Literal(column), name=name)
            for column, name in zip(columns, names, strict=True)
        ]
        statement = sql.SQL(_COUNT_SEGMENTS).format(
            log=sql.Identifier("landing", dataset),
            names=sql.SQL(", ").join(names),
            segments=sql.SQL(", ").join(segments),
        )
        with self._reading() as connection:
            rows = connection.execute(
                statement, ([one.start for one in windows], [one.end for one in windows])
            ).fetchall()
        return {tuple(segment): int(events) for *segment, events in rows}

    def replayable(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Replayable]:
        """Yield what was landed, by origin, in the order of the log."""
        found = self._landed(dataset, window, problems)
        yield from in_window(decoded(self._catalog, dataset, found, problems), window)

    def _landed(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Found]:
        with self._reading() as connection, connection.cursor(name="replayed", binary=True) as cursor:
            cursor.itersize = PAGE_ROWS
            cursor.execute(_about(_READ, dataset), (window.start, window.end))
            for origin_id, partition, position, sent, key, value in cursor:
                place = (f"landing.{dataset} ", origin_id, ":", partition, ":", position)
                if value is None:
                    problems(problem_at(place, "it has no value"))
                    continue
                yield sent, key, value, place

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        if not self._url:
            raise SourceUnavailable("the landing log cannot be read: WAREHOUSE_URL is not set")
        with (
            available("warehouse"),
            psycopg.connect(
                driver_url(self._url), application_name="incident-pipelines recoverability", connect_timeout=10
            ) as connection,
        ):
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            timeout = f"{STATEMENT_TIMEOUT_SECONDS}s"
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (timeout,))
            yield connection


def _about(statement: str, dataset: str) -> sql.Composed:
    return sql.SQL(statement).format(log=sql.Identifier("landing", dataset))  # pyright: ignore[reportArgumentType]


def _aged_out(gaps: Sequence[tuple[Any, ...]], window: TimeWindow) -> list[str]:
    """Name the gaps whose events may belong to a window: they are younger than what was landed before them."""

    def touches(since: datetime, detected_at: datetime) -> bool:
        return since < window.end and window.start < detected_at

    return [
        f"offsets {first} to {end} of {topic}[{partition}] had aged out before they were landed"
        for topic, partition, first, end, since, detected_at in gaps
        if touches(since, detected_at)
    ][:3]
