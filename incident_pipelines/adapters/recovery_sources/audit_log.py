"""An app's audit log: append-only JSON lines, one file for each day of the events."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec

from incident_pipelines.adapters.recovery_sources.source import (
    Found,
    Problem,
    Problems,
    Replayable,
    decoded,
    in_window,
    problem_at,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.recovery.counting import WindowCounts
from incident_pipelines.core.recovery.coverage import AUDIT_LOG, Coverage, counted, silent, unusable
from incident_pipelines.core.recovery.declaration import AuditLog
from incident_pipelines.core.windows import DAY, TimeWindow

MAX_LINE_BYTES = 1_000_000
_SHOWN_PROBLEMS = 3


class AuditLogSource:
    """Reads the files of the days that a window touches, line by line.

    Args:
        environment: with the variables that name the folders.
    """

    def __init__(self, catalog: Catalog, environment: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._environment = environment

    def coverage(self, dataset: str, windows: Sequence[TimeWindow]) -> list[Coverage]:
        """Return how many different events of each window the files have, and which lines cannot be read."""
        recovery = self._catalog.recoveries.get(dataset)
        declared = recovery.audit_log if recovery else None
        if declared is None:
            return unusable(AUDIT_LOG, dataset, windows, f"the catalog's recovery/{dataset}.yaml declares no audit_log")
        location = self._environment.get(declared.location)
        if not location:
            return unusable(AUDIT_LOG, dataset, windows, f"{declared.location} is not set")
        if not Path(location).is_dir():
            return unusable(AUDIT_LOG, dataset, windows, f"{declared.location}: there is no folder {location}")
        counts, problems = WindowCounts(windows), dict[date, list[Problem]]()
        absent: set[date] = set()
        try:
            for day in sorted({day for window in windows for day in _days(window, declared)}):
                path = _file(location, declared, day)
                if not path.exists():
                    absent.add(day)
                    continue
                told = problems.setdefault(day, [])
                lines = _lines(path, declared, told.append)
                for batch in decoded(self._catalog, dataset, lines, told.append):
                    counts.add(batch.envelopes, batch.values, batch.sent)
        except (OSError, SourceUnavailable) as error:
            return silent(AUDIT_LOG, dataset, windows, f"the audit log cannot be read: {error}")
        return [
            counted(
                AUDIT_LOG,
                dataset,
                window,
                events,
                until=_until(window, declared),
                reasons=_reasons(window, declared, absent, problems),
            )
            for window, events in zip(windows, counts.events(), strict=True)
        ]

    def replayable(self, dataset: str, window: TimeWindow, problems: Problems) -> Iterator[Replayable]:
        """Yield events in the order in which they were written."""
        recovery = self._catalog.recoveries.get(dataset)
        declared = recovery.audit_log if recovery else None
        location = self._environment.get(declared.location) if declared else None
        if declared is None or not location:
            raise SourceUnavailable(f"the audit log of {dataset} is not declared, or its variable is not set")
        for day in _days(window, declared):
            path = _file(location, declared, day)
            try:
                if path.exists():
                    lines = _lines(path, declared, problems)
                    yield from in_window(decoded(self._catalog, dataset, lines, problems), window)
            except OSError as error:
                raise SourceUnavailable(f"the audit log cannot be read: {error}") from error


def _days(window: TimeWindow, declared: AuditLog) -> list[date]:
    """The days whose files may hold events of a window."""
    last = (window.end - timedelta(microseconds=1)).date() + timedelta(days=declared.late_days)
    first = window.start.date()
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _file(location: str, declared: AuditLog, day: date) -> Path:
    return Path(location) / declared.file.replace("{day}", day.isoformat())


def _until(window: TimeWindow, declared: AuditLog) -> datetime | None:
    if declared.kept is None:
        return None
    return datetime.combine(window.start.date(), time(), UTC) + DAY + declared.kept


def _reasons(
    window: TimeWindow, declared: AuditLog, absent: set[date], problems: Mapping[date, Sequence[Problem]]
) -> list[str]:
    days = _days(window, declared)
    # A file of a later day is there only where something came late.
    own = days[: len(days) - declared.late_days]
    reasons = [f"{declared.file.replace('{day}', day.isoformat())} is not there" for day in own if day in absent]
    found = [one for day in days for one in problems.get(day, ())]
    reasons += [f"{one.place} {one.reason}" for one in found[:_SHOWN_PROBLEMS]]
    if len(found) > _SHOWN_PROBLEMS:
        reasons.append(f"{len(found)} lines cannot be read in all")
    return reasons


def _lines(path: Path, declared: AuditLog, problems: Problems) -> Iterator[Found]:
    """Yield the events of a file; whatever is none is told, and the next line is read.

    Raises:
        OSError: the file cannot be read, or is no plain file of the folder.
    """
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    text = msgspec.json.Decoder(str).decode
    with _open(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = (path.name, ":", number)
            if len(line) > MAX_LINE_BYTES:
                problems(problem_at(place, f"is longer than {MAX_LINE_BYTES} bytes"))
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES + 1)
                continue
            try:
                parts = decode(line)
                value = bytes(parts[declared.value])
                key = text(parts[declared.key]).encode() if declared.key else None
            except KeyError as error:
                problems(problem_at(place, f"has no field {error}"))
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                cut = "" if line.endswith(b"\n") else " (the end of the file: cut off, or being written)"
                problems(problem_at(place, f"is no event: {error}{cut}"))
                continue
            yield None, key, value, place


def _open(path: Path) -> BinaryIO:
    """Open a plain file; a link may lead anywhere, and is not followed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no plain file")
    return os.fdopen(handle, "rb", buffering=1 << 20)
