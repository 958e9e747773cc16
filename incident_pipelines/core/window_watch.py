"""Which published windows are compared with their digests now, in which spans of a table, and what that shows."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from incident_pipelines.core.publication import WindowContent

RECENT = timedelta(hours=48)
"""Windows that ended or were published so recently are compared every time."""

RECENT_ROWS = 1_000_000
"""At most this many rows, the newest first, are read again every time; what is older takes its turn."""

SLICES = 100
"""Everything else takes its turn in so many slices, one each time: every 30 s, all is seen in 50 minutes."""

Place = tuple[str, datetime]
"""(dataset, start of the window)."""


@dataclass(frozen=True)
class WatchedWindow:
    """A window as it was left by its last publish.

    Args:
        published_at: when its content was; a refusal since does not count.
        owner: who published or refused it last.
        content: None where it is not known, and so cannot be compared.
    """

    dataset: str
    start: datetime
    end: datetime
    published_at: datetime
    owner: str
    content: WindowContent | None


@dataclass(frozen=True)
class Span:
    """Windows of one dataset that follow each other and are compared in one reading of its table.

    Args:
        start, end: half-open; None where no window is before or after. Between windows there may be rows too, which no
            publish wrote.
        columns: that were hashed.
    """

    dataset: str
    start: datetime | None
    end: datetime | None
    columns: tuple[str, ...]
    windows: tuple[WatchedWindow, ...]

    def holds(self, start: datetime) -> bool:
        """Whether a window that begins then is compared by it."""
        return (self.start is None or self.start <= start) and (self.end is None or start < self.end)


@dataclass(frozen=True)
class Found:
    """What stands in a window of a table."""

    start: datetime
    rows: int
    digest: int | None


@dataclass(frozen=True)
class OutsideChange:
    """A window that holds something else than was published.

    Args:
        window: None where nothing was ever published of it.
    """

    dataset: str
    start: datetime
    window: WatchedWindow | None
    rows_found: int
    digest_found: int | None

    @property
    def rows_stored(self) -> int:
        """Rows that were published."""
        return self.window.content.rows if self.window and self.window.content else 0

    def detail(self, statements: Sequence[Mapping[str, object]], *, put_back: bool) -> dict[str, object]:
        """Return what is told of it.

        Args:
            statements: that changed the table since, and published nothing.
            put_back: publishing has already put back what it had published.
        """
        content = self.window.content if self.window else None
        return {
            "rows_stored": self.rows_stored,
            "rows_found": self.rows_found,
            "digest_stored": str(content.digest if content else 0),
            "digest_found": str(self.digest_found),
            "published_at": self.window.published_at.isoformat() if self.window else None,
            "published_by": self.window.owner if self.window else None,
            "statements": list(statements),
            "put_back": put_back,
            "signal_key": self.key,
        }

    @property
    def key(self) -> str:
        """What tells this finding from others: window, content found, and the publish that had left another one."""
        since = f" since {self.window.published_at.astimezone(UTC).isoformat()}" if self.window else ""
        return f"{self.dataset} {self.start.astimezone(UTC).isoformat()} {self.rows_found} {self.digest_found}{since}"


def due(windows: Sequence[WatchedWindow], now: datetime, turn: int, doubted: Collection[Place]) -> list[WatchedWindow]:
    """Return the windows to compare now.

    Args:
        windows: all.
        now: aware.
        turn: number of the comparison; `SLICES` following ones see everything.
        doubted: compared whatever their age: they were found wrong before.
    """
    recent = [window for window in windows if max(window.end, window.published_at) > now - RECENT]
    chosen: set[Place] = set(doubted)
    rows = 0
    # By what they hold: after a first fill or a long backfill everything is published just now.
    for window in sorted(recent, key=lambda recent: (recent.end, recent.published_at), reverse=True):
        rows += window.content.rows if window.content else 0
        if rows > RECENT_ROWS:
            break
        chosen.add((window.dataset, window.start))
    rest = sorted((window.dataset, window.start) for window in windows)
    first, last = (len(rest) * (turn % SLICES + past) // SLICES for past in (0, 1))
    chosen.update(rest[first:last])
    return [window for window in windows if (window.dataset, window.start) in chosen]


def spans(windows: Iterable[WatchedWindow], chosen: Iterable[WatchedWindow], doubted: Iterable[Place]) -> list[Span]:
    """Return how the chosen windows are read.

    Args:
        windows: all, the unknown ones too.
        doubted: places that need no window; the span before them holds them.
    """
    by_dataset: dict[str, list[WatchedWindow]] = {}
    for window in sorted(windows, key=lambda window: window.start):
        by_dataset.setdefault(window.dataset, []).append(window)
    wanted = {(window.dataset, window.start) for window in chosen}
    found: list[Span] = []
    for dataset, ordered in by_dataset.items():
        starts = [window.start for window in ordered]
        for doubted_dataset, start in doubted:
            if doubted_dataset == dataset:
                wanted.add((dataset, starts[max(bisect_right(starts, start) - 1, 0)]))
        for index, window in enumerate(ordered):
            if window.content is None or (dataset, window.start) not in wanted:
                continue
            start = window.start if index else None
            end = starts[index + 1] if index + 1 < len(starts) else None
            before = found[-1] if found else None
            if before and before.dataset == dataset and before.end == start and _joined(before, window.content):
                columns = before.columns or window.content.columns
                found[-1] = Span(dataset, before.start, end, columns, (*before.windows, window))
            else:
                found.append(Span(dataset, start, end, window.content.columns, (window,)))
    return found


def outside_changes(span: Span, found: Iterable[Found]) -> list[OutsideChange]:
    """Return the windows of a span that do not hold what was published, in order.

    Args:
        found: what stands in the span's part of the table, by window; windows without rows are left out.
    """
    published = {window.start: window for window in span.windows}
    there = {part.start: part for part in found}
    changes: list[OutsideChange] = []
    for start in sorted(published.keys() | there.keys()):
        window, part = published.get(start), there.get(start, Found(start, 0, 0))
        content = window.content if window and window.content else WindowContent(0, 0, ())
        if (part.rows, part.digest) != (content.rows, content.digest):
            changes.append(OutsideChange(span.dataset, start, window, part.rows, part.digest))
    return changes


def right_again(compared: Iterable[Span], doubted: Iterable[Place], wrong: Mapping[Place, object]) -> list[Place]:
    """Return the doubted places that were compared and hold what was published."""
    parts = list(compared)
    return [
        (dataset, start)
        for dataset, start in doubted
        if (dataset, start) not in wrong and any(part.dataset == dataset and part.holds(start) for part in parts)
    ]


def _joined(before: Span, content: WindowContent) -> bool:
    """Of an empty window any columns are right."""
    return content.rows == 0 or not before.columns or before.columns == content.columns
