"""Pairs rows by hand-made cases, and against every way to pair them."""

from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison, InvalidComparison
from incident_pipelines.core.reconciliation.matching import RowMatcher


def column(name: str, tolerance: str | None = None) -> ComparedColumn:
    return ComparedColumn(name, name, name, Decimal(tolerance) if tolerance else None)


def matcher(tolerance: str | None = None, same_types: bool = False) -> RowMatcher:
    comparison = Comparison((column("id"),), (column("amount", tolerance),), carried=(ComparedColumn("at", "at", ""),))
    return RowMatcher(comparison, {"id": "number", "amount": "number", "at": "text"}, same_types)


@pytest.mark.parametrize("same_types", [False, True])
def test_rows_of_a_key_are_a_multiset(same_types: bool) -> None:
    source = [(1, 5, "x"), (1, 5, "x"), (1, 6, "x"), (None, 1, "x"), (2, 0, "x")]
    target = [(1, 5, None), (1, 7, None), (None, 1, None), (None, 1, None), (2, None, None)]

    found = list(matcher(same_types=same_types).differences(source, target))

    assert [(d.kind, d.key["id"], d.occurrence, d.columns) for d in found] == [
        ("unexpected", None, 0, {"amount": (None, 1)}),
        ("mismatched", 1, 0, {"amount": (5, 7)}),
        ("missing", 1, 0, {"amount": (6, None)}),
        ("mismatched", 2, 0, {"amount": (0, None)}),
    ]
    assert found[1].source == {"id": 1, "amount": 5, "at": "x"}
    assert found[1].target == {"id": 1, "amount": 7}
    assert (found[0].source, found[2].target) == (None, None)


@given(st.lists(st.integers(0, 6), max_size=5), st.lists(st.integers(0, 6), max_size=5))
def test_within_a_tolerance_as_many_rows_pair_as_can(source: list[int], target: list[int]) -> None:
    found = list(matcher("1").differences([(1, n, None) for n in source], [(1, n, None) for n in target]))

    left, right = list(source), list(target)
    for number in source:  # equal rows pair first
        if number in right:
            left.remove(number)
            right.remove(number)
    few, many = sorted((left, right), key=len)
    most = max(sum(abs(a - b) <= 1 for a, b in zip(few, order, strict=False)) for order in permutations(many))
    assert len(found) == len(many) - most
    assert sum(d.kind == "mismatched" for d in found) == len(few) - most


def test_a_comparison_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidComparison, match="needs a key"):
        Comparison((), (column("a"),))
    with pytest.raises(InvalidComparison, match="key column a cannot have a tolerance"):
        Comparison((column("a", "1"),), ())
    with pytest.raises(InvalidComparison, match="more than once"):
        Comparison((column("a"),), (column("b"), column("b")))
    with pytest.raises(InvalidComparison, match="at least 0"):
        column("a", "-1")
