"""When rows that are gone at their source may leave raw."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.contracts.images import image_before, tombstone_of
from incident_pipelines.core.recovery.deletes import FEW_ROWS, MAX_ROWS, MAX_SHARE, cap_of, refusal


@pytest.mark.parametrize(
    ("rows", "source_rows", "missing", "before", "agreed", "told"),
    [
        (1, 0, 1, 0, None, "empty answer"),
        (1, 0, 1, 0, 1_000_000, "empty answer"),
        (100, 95, 5, 0, None, None),
        (100, 94, 6, 0, None, "more than 5%"),
        (100, 94, 6, 0, 6, None),
        (100, 94, 6, 1, 6, "more than 6 rows"),
        (4, 2, FEW_ROWS, 0, None, None),
        (10**6, 10**6, MAX_ROWS, 0, None, None),
        (10**6, 10**6, MAX_ROWS, 1, None, "more than 1,000 rows"),
    ],
)
def test_in_doubt_nothing_goes(
    rows: int, source_rows: int, missing: int, before: int, agreed: int | None, told: str | None
) -> None:
    found = refusal(rows, source_rows, missing, before, agreed)
    assert found is None if told is None else told in str(found)


@given(*[st.integers(0, 10_000)] * 4, st.none() | st.integers(1, 10_000))
def test_neither_share_nor_cap_is_ever_passed(
    rows: int, source_rows: int, missing: int, before: int, agreed: int | None
) -> None:
    if refusal(rows, source_rows, missing, before, agreed) is None:
        assert source_rows > 0
        assert before + missing <= cap_of(agreed)
        assert agreed is not None or missing <= max(FEW_ROWS, MAX_SHARE * rows)


@given(st.text(max_size=30), st.text(max_size=10))
def test_a_tombstone_gives_its_image_back(value: str, because: str) -> None:
    image = json.dumps({"key": 1, "text": value}).encode()
    tombstone = tombstone_of(image, because)
    assert image_before(tombstone) == image
    assert list(json.loads(tombstone)) == ["key", "text", "$removed"]
    assert image_before(image) == image
