"""The decoder accepts what the contract allows and nothing that a database would refuse."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.contracts.decoder import Envelope, decoder_for, microseconds
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines_tests.builders import CHANGES_YAML, EVENTS_YAML, START, order_bytes, order_event

NOW = microseconds(datetime(2026, 6, 1, tzinfo=UTC))
SENT = NOW - 1_000_000

ORDERS = parse_contract("orders.yaml", EVENTS_YAML.format(name="orders", topic="orders"))
CUSTOMERS = parse_contract("customers.yaml", CHANGES_YAML)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def decode(value: bytes | None) -> Envelope:
    return decoder_for(ORDERS, START)(value, NOW, SENT)  # pyright: ignore[reportArgumentType]


def decode_change(value: bytes | None) -> Envelope:
    assert isinstance(CUSTOMERS, RowsContract)
    return decoder_for(CUSTOMERS, START)(value, NOW, SENT)


def test_a_good_event_gives_its_envelope() -> None:
    event = order_event(order_id="o-7")
    expected = microseconds(datetime(2026, 3, 1, 10, 15, tzinfo=UTC))
    assert decode(json.dumps(event).encode()) == Envelope(expected, event["event_id"], "ordered", "o-7", "1.0.0")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])
def test_white_space_unknown_fields_and_escapes_are_accepted(separators: tuple[str, str]) -> None:
    event = order_event(note='say "hé" \\ \u2028', extra={"a": [1, {"b": None}], 'odd":': "x"})
    for ascii_only in (True, False):
        text = json.dumps(event, separators=separators, ensure_ascii=ascii_only)
        assert decode(text.encode()).reason is None


@given(name=st.sampled_from(sorted(order_event())), value=JSON_VALUES)
def test_a_repeated_key_is_found_wherever_it_stands(name: str, value: Any) -> None:
    twice = order_bytes()[:-1] + f",{json.dumps(name)} : {json.dumps(value)}}}".encode()
    found = decode(twice)
    assert found.reason is not None
    try:
        json.loads(twice, parse_constant=lambda constant: pytest.fail(constant))
    except pytest.fail.Exception:
        return
    # An odd value may be found first, at the same place or inside it.
    assert found.reason in {"repeated_key", "lone_surrogate", "nul_character", "number_out_of_range"}
    assert (found.reason_path or "").startswith("$")


@given(changes=st.dictionaries(st.sampled_from(sorted(order_event())), JSON_VALUES, max_size=3))
def test_whatever_comes_there_is_one_answer(changes: dict[str, Any]) -> None:
    value = json.dumps(order_event(**changes)).encode()
    found = decode(value)
    assert (found.reason is None) == (found.reason_path is None)
    if found.reason is not None:
        assert microseconds(START) <= found.event_time <= NOW + 300_000_000


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_and_never_an_error(value: bytes) -> None:
    assert decode(value).reason is not None


def test_a_dead_letter_keeps_ids_and_time_that_can_be_read() -> None:
    event = order_event(order_id="o-9", amount=-1)
    found = decode(json.dumps(event).encode())
    assert found[:5] == decode(json.dumps({**event, "amount": 1}).encode())[:5]
    assert found[5:] == ("below_minimum", "$.amount")
    assert decode(json.dumps({**event, "occurred_at": "2999-01-01T00:00:00Z"}).encode()).event_time == SENT


def test_the_message_of_a_dead_letter_holds_no_value() -> None:
    found = decode(order_bytes(event_type="secret-4711"))
    assert "4711" not in f"{found.reason}{found.reason_path}"


def test_five_minutes_of_future_are_allowed_and_no_more() -> None:
    assert decode(order_bytes(occurred_at="2026-06-01T00:05:00Z")).reason is None
    assert decode(order_bytes(occurred_at="2026-06-01T00:05:00.000001Z")).reason == "time_in_future"


CUSTOMER = {"customer_id": 7, "name": "Ada", "created_at": "2026-02-03T04:05:06Z"}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("op", ["c", "u", "r", "d"])
def test_a_change_envelope_gives_the_row_it_is_about(op: str, wrapped: bool) -> None:
    sides = {"before": CUSTOMER if op == "d" else None, "after": None if op == "d" else CUSTOMER}
    change: dict[str, Any] = {"op": op, **sides, "source": {"lsn": 1}, "ts_ms": 5}
    value = json.dumps({"schema": {}, "payload": change} if wrapped else change).encode()
    created_at = microseconds(datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert decode_change(value) == Envelope(created_at, "7", op, None, "1.0.0")


def test_a_change_that_does_not_say_which_row_is_a_dead_letter() -> None:
    only_key = json.dumps({"op": "d", "before": {"customer_id": 7}, "after": None}).encode()
    assert decode_change(only_key)[5:] == ("missing_field", "$.before.created_at")
    nothing = json.dumps({"payload": {"op": "u", "after": None}}).encode()
    assert decode_change(nothing)[5:] == ("missing_field", "$.payload.after")


def test_the_tombstone_after_a_delete_says_nothing_and_is_no_dead_letter() -> None:
    assert decode_change(None) == Envelope(SENT, None, "tombstone", None, None)


@pytest.mark.parametrize("number", ["0e99999999999", "1e-99999999999", f"0.{'0' * 600}"])
def test_a_number_that_only_a_double_can_hold_is_refused(number: str) -> None:
    written = order_bytes(amount=4711).replace(b"4711", number.encode())
    assert decode(written)[5:] == ("number_out_of_range", "$.amount")


def test_what_looks_like_such_a_number_in_a_text_is_none() -> None:
    assert decode(order_bytes(amount=0, event_id="0e123456-0000-4000-8000-000000000000", note="9e99999")).reason is None
