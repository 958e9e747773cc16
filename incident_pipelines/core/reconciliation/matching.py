"""Pairs the rows of both sides and names what differs: the one place where a verdict about a row is made."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, cast

from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison, Difference, Kind, SideName
from incident_pipelines.core.reconciliation.values import Value, ValueKind, canonicaliser, order_of, within

RawRow = tuple[Any, ...]
"""Values as a driver gives them, in the order of `Comparison.read`."""

_Row = tuple[Value, ...]
_LARGEST_MATCHING = 64


class RowMatcher:
    """Compares sets of rows that hold all rows of their keys.

    Args:
        kinds: column name → how its values are compared.
        same_types: whether all columns have the same types on both sides, so that rows equal as they come are equal.
    """

    def __init__(self, comparison: Comparison, kinds: Mapping[str, ValueKind], same_types: bool) -> None:
        self._columns = comparison.read
        self._forms: list[Callable[[Any], Value]] = [
            canonicaliser(kinds[column.name], ignore_case=column.ignore_case) for column in self._columns
        ]
        self._key = len(comparison.key)
        self._compared = slice(self._key, self._key + len(comparison.columns))
        self._by_position: tuple[ComparedColumn, ...] = comparison.columns
        self._tolerant = any(column.tolerance is not None for column in comparison.columns)
        self._same_types = same_types

    def differences(self, source: Sequence[RawRow], target: Sequence[RawRow]) -> Iterator[Difference]:
        """Yield what differs between rows of both sides, in the order of keys.

        For each key the rows are a multiset: equal rows pair off, what is left on both sides is mismatched in the order
        of its values, the rest is missing or unexpected.
        """
        if self._same_types:
            source, target = _without_equal(source, target)
        rows: defaultdict[_Row, tuple[list[_Row], list[_Row]]] = defaultdict(lambda: ([], []))
        for side, raw_rows in enumerate((source, target)):
            for raw in raw_rows:
                row = self.canonical(raw)
                rows[row[: self._key]][side].append(row)
        for key in sorted(rows, key=_order):
            yield from self._of_key(key, *rows[key])

    def canonical(self, raw: RawRow) -> _Row:
        """Return a row in canonical values."""
        return tuple(form(value) for form, value in zip(self._forms, raw, strict=True))

    def key(self, raw: RawRow) -> _Row:
        """Return the canonical key of a row."""
        return tuple(form(value) for form, value in zip(self._forms[: self._key], raw, strict=False))

    def _of_key(self, key: _Row, source: list[_Row], target: list[_Row]) -> Iterator[Difference]:
        source, target = self._without_equal(source, target)
        if self._tolerant and source and target:
            source, target = self._without_tolerated(source, target)
        source.sort(key=self._order)
        target.sort(key=self._order)
        paired = min(len(source), len(target))
        for occurrence, (left, right) in enumerate(zip(source, target, strict=False)):
            yield self._difference("mismatched", key, occurrence, left, right)
        for occurrence, row in enumerate(source[paired:]):
            yield self._difference("missing", key, occurrence, row, None)
        for occurrence, row in enumerate(target[paired:]):
            yield self._difference("unexpected", key, occurrence, None, row)

    def _without_equal(self, source: list[_Row], target: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        waiting = Counter(row[self._compared] for row in source)
        left_target: list[_Row] = []
        for row in target:
            if waiting[row[self._compared]]:
                waiting[row[self._compared]] -= 1
            else:
                left_target.append(row)
        left_source: list[_Row] = []
        for row in source:
            if waiting[row[self._compared]]:
                waiting[row[self._compared]] -= 1
                left_source.append(row)
        return left_source, left_target

    def _without_tolerated(self, source: list[_Row], target: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Pair as many rows as the tolerances allow; of more than `_LARGEST_MATCHING` rows each takes the first."""
        partners: dict[int, int] = {}  # position in target → position in source
        candidates = [[at for at, row in enumerate(target) if self._within(left, row)] for left in source]

        def pair(position: int, tried: set[int]) -> bool:
            for at in candidates[position]:
                if at in tried:
                    continue
                tried.add(at)
                free = at not in partners
                if free or (len(source) <= _LARGEST_MATCHING and pair(partners[at], tried)):
                    partners[at] = position
                    return True
            return False

        for position in range(len(source)):
            pair(position, set())
        paired = set(partners.values())
        return (
            [row for position, row in enumerate(source) if position not in paired],
            [row for position, row in enumerate(target) if position not in partners],
        )

    def _within(self, source: _Row, target: _Row) -> bool:
        return all(
            within(left, right, column.tolerance)
            for column, left, right in zip(
                self._by_position, source[self._compared], target[self._compared], strict=True
            )
        )

    def _order(self, row: _Row) -> list[tuple[int, Any]]:
        return [order_of(value) for value in (*row[self._compared], *row)]

    def _difference(
        self, kind: Kind, key: _Row, occurrence: int, source: _Row | None, target: _Row | None
    ) -> Difference:
        columns: dict[str, tuple[Value, Value]] = {}
        for position, column in enumerate(self._by_position, self._key):
            left = None if source is None else source[position]
            right = None if target is None else target[position]
            if source is None or target is None or not within(left, right, column.tolerance):
                columns[column.name] = (left, right)
        names = [column.name for column in self._columns]
        return Difference(
            kind,
            dict(zip(names, key, strict=False)),
            occurrence,
            columns,
            self._named("source", source),
            self._named("target", target),
        )

    def _named(self, side: SideName, row: _Row | None) -> dict[str, Value] | None:
        if row is None:
            return None
        return {column.name: value for column, value in zip(self._columns, row, strict=True) if column.on(side)}


def _without_equal(source: Sequence[RawRow], target: Sequence[RawRow]) -> tuple[list[RawRow], list[RawRow]]:
    """Take out what is equal as it comes: a shortcut for nearly all rows that are read."""
    waiting = Counter(cast(Sequence[Hashable], source))
    left_target: list[RawRow] = []
    for row in target:
        if waiting.get(row, 0):
            waiting[row] -= 1
        else:
            left_target.append(row)
    return [cast(RawRow, row) for row in waiting.elements()], left_target


def _order(key: _Row) -> list[tuple[int, Any]]:
    return [order_of(value) for value in key]
