from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.recovery.guardrails import pause_after


def test_pauses_double_up_to_ten_minutes() -> None:
    seconds = [pause_after(runs).total_seconds() for runs in range(1, 8)]
    assert seconds == [30, 60, 120, 240, 480, 600, 600]


@given(st.integers(1, 10**9))
def test_however_many_runs_there_were_the_pause_is_ten_minutes_at_most(runs: int) -> None:
    assert timedelta(seconds=30) <= pause_after(runs) <= pause_after(runs + 1) <= timedelta(minutes=10)
