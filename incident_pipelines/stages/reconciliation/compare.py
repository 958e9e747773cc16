"""Compares two tables row by row without reading all rows: digests by bucket first, then the rows that may differ."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal

from incident_pipelines.adapters.databases.comparison.pair import TablePair
from incident_pipelines.adapters.databases.comparison.table import (
    ColumnType,
    ComparedTable,
    Filter,
    TableRef,
    unknown_column,
    view_of,
)
from incident_pipelines.core.reconciliation.comparison import Comparison, Counts, Difference, InvalidComparison
from incident_pipelines.core.reconciliation.digests import (
    READ_AT_ONCE,
    Buckets,
    Differing,
    HashBuckets,
    Selection,
    differing,
    differing_in_order,
    finer_buckets,
    first_buckets,
)
from incident_pipelines.core.reconciliation.matching import RawRow, RowMatcher
from incident_pipelines.core.reconciliation.scope import Everything, Keys, Scope, TimeRange
from incident_pipelines.core.reconciliation.values import Value, ValueKind, common_kind
from incident_pipelines.core.windows import TimeWindow

__all__ = ["ComparisonRun", "Filter", "Progress", "TableRef", "compare"]

STATEMENT_TIMEOUT_SECONDS = 600.0

_KEYS_AT_ONCE = 2_000
_LARGEST_BUCKET_ROWS = 4_096
_WORTHWHILE = 0.7
_ROWS_BETWEEN_REPORTS = 20_000

Key = tuple[Value, ...]


@dataclass(frozen=True)
class Progress:
    """How far a comparison is.

    Args:
        phase: ``opening`` both sides, ``digesting`` all rows, ``narrowing`` to smaller buckets, ``reading`` rows.
        rows: of both sides that the phase is about, roughly; 0 where not known.
        done: of them; where an engine works by itself it stays 0 until the phase is over.
    """

    phase: Literal["opening", "digesting", "narrowing", "reading"]
    rows: int = 0
    done: int = 0


Report = Callable[[Progress], None]


Steps = Callable[[TablePair, Counts], Iterator[Difference]]


class ComparisonRun:
    """The differences between two tables; iterate once. They come as they are found, in bounded memory.

    By key where the key is an integer with an index on both sides; else keys that differ come in an order of their own.
    Both sides are read in a read-only snapshot, which ends with the iteration.

    Raises:
        SourceUnavailable: while iterating: a side does not answer, or not in time; says nothing about its data.
        InvalidComparison: while iterating: a side cannot be compared like this.
    """

    def __init__(self, open_pair: Callable[[], TablePair], steps: Steps) -> None:
        self._open_pair = open_pair
        self._steps = steps
        self._begun = False
        self.counts = Counts()

    def __iter__(self) -> Iterator[Difference]:
        assert not self._begun, "a comparison is iterated once"
        self._begun = True
        pair = self._open_pair()
        try:
            for difference in self._steps(pair, self.counts):
                self.counts.add(difference.kind)
                yield difference
        finally:
            pair.close()


def compare(
    source: TableRef,
    target: TableRef,
    comparison: Comparison,
    scope: Scope = Everything(),
    *,
    progress: Report | None = None,
    statement_timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
    portable: bool = False,
) -> ComparisonRun:
    """Compare two tables.

    Args:
        scope: which rows; of a `TimeRange` the counts are the rows inside it.
        progress: told of each phase, from the iterating thread.
        statement_timeout_seconds: longest time a statement may take.
        portable: whether to digest canonical texts although both engines have the same hashes.
    """
    report = progress or (lambda _: None)

    def opened() -> TablePair:
        report(Progress("opening"))
        return TablePair(source, target, statement_timeout_seconds)

    return ComparisonRun(opened, lambda pair, counts: _Steps(pair, comparison, scope, counts, report, portable).run())


def compare_pair(
    pair: TablePair, comparison: Comparison, *, progress: Report | None = None, portable: bool = False
) -> ComparisonRun:
    """Compare all rows of two tables that are open already; they are closed at the end."""
    report = progress or (lambda _: None)
    return ComparisonRun(
        lambda: pair, lambda pair, counts: _Steps(pair, comparison, Everything(), counts, report, portable).run()
    )


class _Steps:
    """One comparison: what is asked of both sides, in order."""

    def __init__(
        self, pair: TablePair, comparison: Comparison, scope: Scope, counts: Counts, report: Report, portable: bool
    ) -> None:
        self._pair = pair
        self._comparison = comparison
        self._scope = scope
        self._counts = counts
        self._report = report
        source, target = pair.source, pair.target
        kinds = _kinds(comparison, source, target)
        typed = (
            source.typed
            and target.typed
            and all(_type(source, column.source) == _type(target, column.target) for column in comparison.read)
        )
        self._matcher = RowMatcher(comparison, kinds, typed)
        window = None
        if isinstance(scope, TimeRange):
            if comparison.time is None:
                raise InvalidComparison("a range of time needs a comparison with a time column")
            window = TimeWindow(scope.start, scope.end)
        native = not portable and source.hashes is not None and source.hashes == target.hashes
        source.look(view_of("source", comparison, kinds, source.columns, target.columns, window, native))
        target.look(view_of("target", comparison, kinds, target.columns, source.columns, window, native))

    def run(self) -> Iterator[Difference]:
        """Yield the differences."""
        match self._scope:
            case Everything():
                yield from self._of_digests()
            case TimeRange() if self._on_both_sides():
                # What differs within the window may be a row that is elsewhere in time on the other side. All keys
                # first: nothing else can be asked while a side still gives its rows.
                for keys in _batches(list(self._keys(self._of_digests()))):
                    yield from self._of_keys(keys)
            case TimeRange():
                for keys in _batches(self._keys_in_window()):
                    yield from self._of_keys(keys, counted=True)
            case Keys():
                for keys in _batches(dict.fromkeys(self._scope.keys)):
                    yield from self._of_keys(keys, counted=True)

    def _on_both_sides(self) -> bool:
        time = self._comparison.time
        return time is not None and bool(time.source) and bool(time.target)

    def _of_digests(self) -> Iterator[Difference]:
        pair, counts = self._pair, self._counts
        estimated = pair.both(lambda side: side.estimated_rows())
        self._report(Progress("digesting", sum(estimated)))
        buckets = first_buckets(max(estimated), _span(*pair.both(lambda side: side.key_span())))
        source, target = pair.both(lambda side: side.digests(buckets))
        counts.source = sum(rows for rows, _ in source.values())
        counts.target = sum(rows for rows, _ in target.values())
        found = differing(source, target)
        del source, target
        selection = self._narrowed(buckets, found)
        if selection is None:
            return
        everything = isinstance(selection.of, HashBuckets) and selection.of.bits == 0
        streams = pair.streams(lambda side: side.rows(None if everything else selection))
        rows, done, reported = round(selection.share * (counts.source + counts.target)), 0, 0
        self._report(Progress("reading", rows))
        for source_rows, target_rows in _by_bucket(*streams):
            yield from self._matcher.differences(source_rows, target_rows)
            done += len(source_rows) + len(target_rows)
            if done - reported >= _ROWS_BETWEEN_REPORTS:
                self._report(Progress("reading", rows, done))
                reported = done

    def _narrowed(self, buckets: Buckets, found: Differing) -> Selection | None:
        """Return the buckets to read, as small as it is worth to make them; None if there are none."""
        while found.buckets:
            share = found.rows / max(1, self._counts.source + self._counts.target)
            selection = Selection(buckets, found.buckets, share)
            if found.rows <= 2 * READ_AT_ONCE or buckets.finest:
                return selection
            self._report(Progress("narrowing", found.rows))
            finer = finer_buckets(buckets, found.rows // 2, len(found.buckets))
            narrower = differing_in_order(*self._pair.streams(partial(_finer_digests, finer, selection)))
            largest = _LARGEST_BUCKET_ROWS * len(narrower.buckets)
            if _WORTHWHILE * found.rows < narrower.rows <= largest:
                return Selection(finer, narrower.buckets, share)
            buckets, found = finer, narrower
        return None

    def _of_keys(self, keys: Sequence[Key], counted: bool = False) -> Iterator[Difference]:
        """Compare keys whole."""
        sought = set(keys)
        source, target = self._pair.both(
            lambda side: [row for row in side.rows_of_keys(keys) if self._matcher.key(row) in sought]
        )
        if counted:
            self._counts.source += len(source)
            self._counts.target += len(target)
        yield from self._matcher.differences(source, target)

    def _keys_in_window(self) -> Iterator[Key]:
        """Yield the keys in the window, where one side only has the column that says when."""
        time = self._comparison.time
        side = self._pair.source if time and time.source else self._pair.target
        for _, row in side.rows(None):
            yield self._matcher.key(row)

    def _keys(self, differences: Iterable[Difference]) -> Iterator[Key]:
        names = [column.name for column in self._comparison.key]
        for difference in differences:
            yield tuple(difference.key[name] for name in names)


def _finer_digests(buckets: Buckets, selection: Selection, side: ComparedTable) -> Iterator[tuple[int, int, int]]:
    return side.finer_digests(buckets, selection)


def _batches(keys: Iterable[Key]) -> Iterator[list[Key]]:
    """Yield distinct keys, many at once; differences of one key stand together."""
    batch: dict[Key, None] = {}
    for key in keys:
        if len(batch) >= _KEYS_AT_ONCE and key not in batch:
            yield list(batch)
            batch = {}
        batch[key] = None
    if batch:
        yield list(batch)


def _by_bucket(
    source: Iterator[tuple[int, RawRow]], target: Iterator[tuple[int, RawRow]]
) -> Iterator[tuple[list[RawRow], list[RawRow]]]:
    """Yield the rows of both sides bucket by bucket; both streams are in the order of buckets."""
    left_buckets, right_buckets = (groupby(stream, key=lambda numbered: numbered[0]) for stream in (source, target))
    left, right = next(left_buckets, None), next(right_buckets, None)
    while left is not None or right is not None:
        bucket = min(numbered[0] for numbered in (left, right) if numbered is not None)
        left_rows: list[RawRow] = []
        right_rows: list[RawRow] = []
        if left is not None and left[0] == bucket:
            left_rows = [row for _, row in left[1]]
            left = next(left_buckets, None)
        if right is not None and right[0] == bucket:
            right_rows = [row for _, row in right[1]]
            right = next(right_buckets, None)
        yield left_rows, right_rows


def _span(source: tuple[int, int] | None, target: tuple[int, int] | None) -> tuple[int, int] | None:
    if source is None or target is None:
        return None
    return min(source[0], target[0]), max(source[1], target[1])


def _kinds(comparison: Comparison, source: ComparedTable, target: ComparedTable) -> Mapping[str, ValueKind]:
    kinds: dict[str, ValueKind] = {}
    for column in comparison.read:
        own = [found for found in (_type(source, column.source), _type(target, column.target)) if found is not None]
        if not own or (column not in comparison.carried and column != comparison.time and len(own) < 2):
            raise InvalidComparison(f"column {column.name} has to be named on both sides")
        kind = common_kind(own[0].family, own[-1].family)
        if column.tolerance is not None and kind not in ("number", "timestamp"):
            raise InvalidComparison(f"column {column.name} is compared as {kind}, which has no tolerance")
        if column.ignore_case and kind != "text":
            raise InvalidComparison(f"column {column.name} is compared as {kind}, which has no case to ignore")
        kinds[column.name] = kind
    return kinds


def _type(side: ComparedTable, name: str) -> ColumnType | None:
    """Return a column's type, None where the side is not to have the column."""
    if not name:
        return None
    if name not in side.columns:
        raise unknown_column(side.ref, name, list(side.columns))
    return side.columns[name]
