"""What is equal whatever engine it comes from."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.reconciliation.values import ValueKind, canonicaliser, common_kind, order_of, within

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

EQUAL: list[tuple[ValueKind, list[Any]]] = [
    ("number", [10, 10.0, Decimal("10"), Decimal("10.00"), Decimal("1E1"), "10.0", " 10 ", "1e1"]),
    ("number", [0, 0.0, -0.0, Decimal("-0.00"), "-0"]),
    ("number", [0.1, Decimal("0.1"), Decimal("0.100"), "0.1", ".1"]),
    ("number", [float("nan"), Decimal("NaN"), Decimal("sNaN"), "nan", "NaN"]),
    ("number", [float("-inf"), Decimal("-Infinity"), "-inf", "-Infinity"]),
    ("number", [10**30, Decimal(10**30), Decimal("1E+30"), 1e30]),
    ("boolean", [True, 1, 1.0, "t", "TRUE", Decimal(1)]),
    (
        "timestamp",
        [
            NOON,
            NOON.replace(tzinfo=None),
            NOON.astimezone(timezone(timedelta(hours=-5))),
            "2026-01-01 12:00:00",
            "2026-01-01T12:00Z",
            "2026-01-01T14:00:00.000000+02:00",
            "2026-01-01 12:00:00.000000000+00",
        ],
    ),
    ("date", [date(2026, 1, 1), datetime(2026, 1, 1), "2026-01-01", "2026-01-01 00:00:00"]),  # noqa: DTZ001
    ("uuid", [UUID(int=10), str(UUID(int=10)).upper(), UUID(int=10).hex, UUID(int=10).bytes]),
    ("text", ["1.5", Decimal("1.50"), 1.5]),
    ("bytes", [b"\x00a", bytearray(b"\x00a"), memoryview(b"\x00a")]),
    (
        "json",
        ['{"a": [1.0, {"c": null}], "b": "x"}', '{"b":"x","a":[1,{"c":null}]}', {"b": "x", "a": [1, {"c": None}]}],
    ),
]

DIFFERENT: list[tuple[ValueKind, Any, Any]] = [
    ("number", 0, None),
    ("number", 1, -1),
    ("number", Decimal("0.1"), Decimal("0.10000000000000000000000000000000000000001")),
    ("number", float("nan"), None),
    ("number", float("inf"), float("nan")),
    ("number", "1_0", 10),
    ("number", "١", 1),
    ("boolean", True, 2),
    ("boolean", False, None),
    ("timestamp", NOON, NOON + timedelta(microseconds=1)),
    ("timestamp", "2026-01-01 12:00:00.000000001", NOON),
    ("timestamp", "infinity", None),
    ("timestamp", "20260101", datetime(2026, 1, 1, tzinfo=UTC)),
    ("date", "2026-01-01 00:00:01", date(2026, 1, 1)),
    ("text", "", None),
    ("text", "a", "A"),
    ("text", "1", "1.0"),
    ("bytes", b"a", "a"),
    ("json", '{"a": "1"}', '{"a": 1}'),
    ("json", "null", None),
    ("json", '{"a": 0.5}', '{"a": {"number": "0.5"}}'),
]


@pytest.mark.parametrize(("kind", "values"), EQUAL)
def test_one_value_has_one_form(kind: ValueKind, values: list[Any]) -> None:
    forms = [canonicaliser(kind)(value) for value in values]

    assert all(within(forms[0], form, None) for form in forms), forms
    assert len(set(forms)) == 1
    assert canonicaliser(kind)(forms[0]) == forms[0]


@pytest.mark.parametrize(("kind", "one", "other"), DIFFERENT)
def test_different_values_stay_different(kind: ValueKind, one: Any, other: Any) -> None:
    assert not within(canonicaliser(kind)(one), canonicaliser(kind)(other), None)


def test_case_is_folded_only_where_asked() -> None:
    assert canonicaliser("text", ignore_case=True)("STRASSE") == canonicaliser("text", ignore_case=True)("straße")
    assert canonicaliser("text")("A") == "A"


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "equal"),
    [
        (Decimal("1.00"), Decimal("1.01"), "0.01", True),
        (Decimal("1.00"), Decimal("1.0100000000000000000000000000001"), "0.01", False),
        (10**40, 10**40 + 1, "1", True),
        (10**40, 10**40 + 2, "1", False),
        (NOON, NOON + timedelta(milliseconds=500), "0.5", True),
        (NOON, NOON + timedelta(microseconds=500_001), "0.5", False),
        (None, 0, "1", False),
        ("NaN", "NaN", "1", True),
        ("NaN", 0, "1", False),
    ],
)
def test_a_tolerance_is_absolute_and_exact(one: Any, other: Any, tolerance: str, equal: bool) -> None:
    assert within(one, other, Decimal(tolerance)) is equal
    assert within(other, one, Decimal(tolerance)) is equal


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        ("integer", "decimal", "number"),
        ("float", "text", "number"),
        ("boolean", "integer", "boolean"),
        ("boolean", "decimal", "number"),
        ("timestamp", "timestamptz", "timestamp"),
        ("timestamptz", "date", "timestamp"),
        ("date", "text", "date"),
        ("uuid", "text", "uuid"),
        ("uuid", "bytes", "uuid"),
        ("other", "text", "text"),
        ("date", "integer", "text"),
    ],
)
def test_types_of_both_sides_say_how_values_are_compared(source: Any, target: Any, kind: ValueKind) -> None:
    assert common_kind(source, target) == common_kind(target, source) == kind


@given(st.lists(st.one_of(st.none(), st.integers(), st.decimals(allow_nan=False), st.text(), st.binary(), st.uuids())))
def test_any_values_can_be_put_in_order(values: list[Any]) -> None:
    assert len(sorted(values, key=order_of)) == len(values)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 5))
def test_zeros_at_the_end_are_nothing(number: Decimal, zeros: int) -> None:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    longer = Decimal((sign, (*digits, *[0] * zeros), exponent - zeros))

    assert canonicaliser("number")(longer) == canonicaliser("number")(number) == number
