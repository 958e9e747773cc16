"""The life of a difference, against a naive model; values survive the ledger."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.reconciliation.comparison import Difference
from incident_pipelines.core.reconciliation.differences import (
    Entry,
    Known,
    Stake,
    difference_id,
    gap_rate,
    newest,
    seen,
    stake,
    times_of,
    values_digest,
)
from incident_pipelines.core.reconciliation.ledger_values import from_json, shown, to_json, type_name

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GRACE = timedelta(minutes=10)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
)


def mismatch(source: Any, target: Any, **more: Any) -> Difference:
    return Difference(
        "mismatched", {"id": 1}, 0, {"amount": (source, target)}, {"amount": source, **more}, {"amount": target, **more}
    )


@given(VALUES)
def test_a_value_comes_back_from_the_ledger_as_it_was(value: Any) -> None:
    written = json.dumps(to_json(value))
    assert "\\u0000" not in written
    back = from_json(json.loads(written), type_name(value))
    assert back == value
    assert type(back) is type(value)


@given(st.lists(VALUES, min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=3))
def test_identity_is_that_of_the_key(one: list[Any], other: list[Any]) -> None:
    def identity(key: list[Any], kind: Any = "missing", occurrence: int = 0, name: str = "orders") -> str:
        row = {str(index): value for index, value in enumerate(key)}
        return difference_id(name, Difference(kind, row, occurrence, {}, row, None))

    same = len(one) == len(other) and all(
        type(a) is type(b) and a == b and str(a) == str(b) for a, b in zip(one, other, strict=True)
    )
    assert (identity(one) == identity(other)) == same
    assert identity(one) == identity(list(one))
    assert len({identity(one), identity(one, "unexpected"), identity(one, occurrence=1), identity(one, name="x")}) == 4


@dataclass
class Model:
    """What a person would keep on paper."""

    first: datetime
    opened: datetime
    open: bool = True
    comebacks: int = 0


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.booleans(), st.sampled_from(["v1", "v2"]), st.none() | st.integers(-60, 15)),
        min_size=1,
        max_size=12,
    )
)
def test_life_of_a_difference(steps: list[tuple[int, bool, str, int | None]]) -> None:
    """Each step: minutes later, whether it is found, its values, minutes from then to the row's last change."""
    now, known, model = NOON, None, None
    last_values = ""
    for minutes, found, values, changed in steps:
        now += timedelta(minutes=minutes)
        if not found:
            if known and known.resolved_at is None:
                known = replace(known, resolved_at=now)
            if model:
                model.open = False
            continue
        newest_at = None if changed is None else now + timedelta(minutes=changed)
        entry = seen(known, values, newest_at, now, GRACE)
        if model is None:
            model, expected = Model(now, now), "new"
        elif not model.open:
            model.open, model.opened, expected = True, now, "reopened"
            model.comebacks += 1
        else:
            expected = "still_open" if values == last_values else "values_changed"
        last_values = values
        assert entry.change == expected
        assert (entry.first_seen, entry.opened_at, entry.reopened) == (model.first, model.opened, model.comebacks)
        assert entry.last_seen == now
        counted_from = newest_at if newest_at is not None and newest_at <= now else model.opened
        assert (entry.explanation == "in_flight") == (now - counted_from < GRACE)
        known = known_from(entry)


def known_from(entry: Entry, **changes: Any) -> Known:
    values: dict[str, Any] = {**vars(entry), "resolved_at": None, **changes}
    del values["change"]
    return Known(**values)


def test_an_incident_explains_until_it_is_resolved() -> None:
    entry = seen(None, "v", NOON - GRACE, NOON, GRACE)
    assert entry.explanation is None
    known = known_from(entry, explanation="incident", incident_id="i-1")
    later = seen(known, "v2", NOON - GRACE, NOON + GRACE, GRACE)
    assert (later.explanation, later.incident_id) == ("incident", "i-1")
    back = seen(known_from(later, resolved_at=NOON + GRACE), "v", NOON, NOON + 3 * GRACE, GRACE)
    assert (back.explanation, back.incident_id, back.change) == (None, None, "reopened")


def test_a_clock_that_is_wrong_hides_a_difference_for_the_grace_and_no_longer() -> None:
    future = datetime(2999, 1, 1, tzinfo=UTC)
    entry = seen(None, "v", future, NOON, GRACE)
    assert entry.explanation == "in_flight"
    assert seen(known_from(entry), "v", future, NOON + GRACE, GRACE).explanation is None


def test_newest_is_the_younger_of_both_sides() -> None:
    old, young = NOON - GRACE, NOON
    difference = Difference(
        "mismatched", {"id": 1}, 0, {}, {"at": old, "changed": young.isoformat(), "n": 5}, {"at": old, "changed": None}
    )
    assert newest(difference, {"source": ("at", "changed"), "target": ("at", "changed")}) == young
    assert newest(difference, {"target": ("at", "changed")}) == old
    assert newest(difference, {"source": ("n",), "target": ()}) is None
    day = Difference("missing", {"id": 1}, 0, {}, {"at": date(2026, 3, 1)}, None)
    assert newest(day, {"source": ("at",)}) == datetime(2026, 3, 1, tzinfo=UTC)


def test_each_side_says_itself_when_its_row_belongs_to() -> None:
    late = NOON + GRACE
    both = Difference("mismatched", {"id": 1}, 0, {}, {"at": NOON, "changed": late}, {"at": late.isoformat()})
    assert times_of(both, "at") == (NOON, late)
    assert times_of(Difference("missing", {"id": 1}, 0, {}, {"at": NOON}, None), "at") == (NOON, None)
    assert times_of(Difference("unexpected", {"id": 1}, 0, {}, None, {"at": None}), "at") == (None, None)
    assert times_of(both, None) == (None, None)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (mismatch(Decimal("10.00"), Decimal("7.5"), currency="EUR"), Stake(Decimal("2.50"), "EUR")),
        (mismatch(10, 10, currency="EUR"), Stake(Decimal(10), "EUR")),
        (mismatch(None, 4, currency="USD"), Stake(Decimal(4), "USD")),
        (mismatch(None, None), None),
        (mismatch("NaN", "x"), None),
        (Difference("missing", {"id": 1}, 0, {}, {"amount": -3, "currency": None}, None), Stake(Decimal(3), "")),
    ],
)
def test_money_at_stake(difference: Difference, expected: Stake | None) -> None:
    sides = {"source": "amount", "target": "amount"}
    assert stake(difference, sides, {"source": "currency", "target": "currency"}) == expected


def test_values_digest_tells_null_from_empty_and_sides_apart() -> None:
    pairs = [(None, ""), ("", None), ("", "1"), ("1", ""), (1, ""), (None, 1)]
    assert len({values_digest(mismatch(*pair)) for pair in pairs}) == len(pairs)


def test_gap_rate() -> None:
    assert gap_rate(0, 0, 0) == 0
    assert gap_rate(3, 0, 0) == 1
    assert gap_rate(2, 1000, 900) == Decimal("0.002")
    assert gap_rate(50, 10, 20) == 1


def test_what_is_shown_is_masked_where_it_is_personal() -> None:
    assert shown("maria@example.org", personal=True) == "ma…"
    assert shown(None, personal=True) == "NULL"
    assert shown("") == ""
    assert shown("a\x1b[31m") == "a\\x1b[31m"
