"""What a database and a sample say becomes a contract that parses; what is missing is named, with what to do."""

import json
from typing import Any

import pytest

from incident_pipelines.core.contracts.draft import CannotDraft, FoundColumn, FoundTable, draft_rows_contract
from incident_pipelines.core.contracts.event_draft import draft_event_contract
from incident_pipelines.core.contracts.model import Column, EventContract, RowsContract, TableSource
from incident_pipelines.core.contracts.odcs import parse_contract


def _column(name: str, kind: Any, **said: Any) -> FoundColumn:
    return FoundColumn(name, Column(name, kind, **said), str(kind))


def _table(*columns: FoundColumn, key: tuple[str, ...] = ("id",)) -> FoundTable:
    return FoundTable("shop", "SHOP_DATABASE_URL", "public", "orders", columns, key)


_ID = _column("id", "integer", required=True, unique=True)
_UPDATED = _column("updated_at", "timestamp", required=True)


def test_names_types_and_keys_survive() -> None:
    found = _table(
        _ID,
        _column("no", "text", max_length=7, description='It\'s: a # "number"'),  # YAML reads a bare `no` as false
        _column("price", "numeric", precision=9, scale=3, required=True),
        _column("state", "text", allowed=("new", "yes", "1")),
        _column("owner_email", "text"),
        FoundColumn("payload", None, "JSONB"),
        _column("created_at", "timestamp"),
        _UPDATED,
    )
    text = draft_rows_contract(found)
    contract = parse_contract("drafted.yaml", text)
    assert isinstance(contract, RowsContract)
    assert contract.name == "shop_orders"
    assert contract.origin == TableSource("shop", "public", "orders", "updated_at")
    assert contract.primary_key == ("id",)
    assert contract.time_column == "created_at"
    assert [column.name for column in contract.columns] == [one.name for one in found.columns if one.column]
    assert contract.column("no").description == 'It\'s: a # "number"'
    assert contract.column("no").max_length == 7
    assert contract.column("price").sql_type == "numeric(9,3)"
    assert contract.column("state").allowed == ("new", "yes", "1")
    assert contract.column("owner_email").pii
    assert contract.column("created_at").required  # it decides the hour, whatever the table allows
    assert "'payload' (JSONB) is left out" in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (_table(_ID, _UPDATED, key=()), "has no primary key.* ALTER TABLE public.orders ADD COLUMN"),
        (_table(_ID), "no column that moves with each change.* ADD COLUMN updated_at"),
        (_table(_ID, _column("created_at", "timestamp")), "which column moves.* created_at; name it: --table"),
        (_table(FoundColumn("id", None, "JSONB"), _UPDATED), r"column 'id' \(JSONB\) of the primary key"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(found: FoundTable, said: str) -> None:
    with pytest.raises(CannotDraft, match=said):
        draft_rows_contract(found)


def test_a_column_that_is_named_has_to_be_a_timestamp() -> None:
    with pytest.raises(CannotDraft, match="no timestamp column 'id'; it has updated_at"):
        draft_rows_contract(_table(_ID, _UPDATED), changed="id")


def _event(**fields: Any) -> str:
    event = {
        "event_id": "8f14e45f-ceea-467f-ab15-1e6c5e4f0a3a",
        "event_type": "made",
        "created_at": "2026-11-21T10:00Z",
    }
    return json.dumps(event | fields)


def test_a_sample_becomes_a_contract() -> None:
    lines = [
        _event(amount=1, pieces=2, note="a", who={"a": 1}),
        _event(amount=2.125, pieces=3, on="2026-01-01"),
    ]
    text = draft_event_contract("Card.Payments", lines)
    contract = parse_contract("drafted.yaml", text)
    assert isinstance(contract, EventContract)
    assert (contract.name, contract.topic) == ("card_payments", "Card.Payments")
    assert (contract.event_id, contract.event_type, contract.event_time) == ("event_id", "event_type", "created_at")
    assert {column.name: column.type for column in contract.columns} == {
        "event_id": "uuid", "event_type": "text", "created_at": "timestamp",
        "amount": "numeric", "pieces": "integer", "note": "text", "on": "date",
    }  # fmt: skip
    assert contract.column("amount").scale == 3
    assert contract.column("pieces").required
    assert not contract.column("note").required
    assert "'who' is left out" in text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds no event"),
        (["{"], "line 1 of the sample is no JSON"),
        (["[1]"], "line 1 of the sample is no JSON object"),
        (['{"event_id": 1, "created_at": "2026-11-21T10:00Z"}'], "type of an event.*events.yaml.example"),
    ],
)
def test_a_sample_that_says_too_little_is_refused(lines: list[str], said: str) -> None:
    with pytest.raises(CannotDraft, match=said):
        draft_event_contract("payments", lines)
