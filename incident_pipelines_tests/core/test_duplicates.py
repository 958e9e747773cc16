"""From how many copies on a producer is told of, and how grave that is."""

import pytest

from incident_pipelines.core.duplicates import is_worth_telling
from incident_pipelines.core.signals import grade


@pytest.mark.parametrize(
    ("events", "copies", "told", "expected"),
    [
        (100, 4, 0, False),
        (100, 5, 0, True),
        (5_000, 5, 0, False),
        (4_999, 5, 0, True),
        (100, 9, 5, False),
        (100, 10, 5, True),
        (20_000, 20, 5, False),
        (0, 0, 0, False),
    ],
)
def test_more_than_one_in_a_thousand_and_more_than_a_few(events: int, copies: int, told: int, expected: bool) -> None:
    assert is_worth_telling(events, copies, told) is expected


@pytest.mark.parametrize(
    ("share", "severity"), [(0.0011, "page"), (0.01, "page"), (0.0101, "critical"), ("?", "page"), (None, "page")]
)
def test_more_than_one_in_a_hundred_is_critical(share: object, severity: str) -> None:
    assert grade("duplicate_events", {"share": share}).severity == severity
