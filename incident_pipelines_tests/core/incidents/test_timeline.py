"""The chain of hashes tells every change of a timeline, and where."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.core.incidents.timeline import FIRST_HASH, Entry, clean, entry_hash, plain, tamperings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def timeline(length: int, incident_id: str = "INC-1") -> list[Entry]:
    entries: list[Entry] = []
    for number in range(1, length + 1):
        previous = entries[-1].hash if entries else FIRST_HASH
        at = NOON + timedelta(seconds=number)
        entry = Entry(
            number, at, "noted", "person", "ana", f"note {number}", detail={"n": number}, previous_hash=previous
        )
        entries.append(replace(entry, hash=entry_hash(incident_id, entry)))
    return entries


def found(entries: list[Entry], count: int, head: str, incident_id: str = "INC-1") -> list[int]:
    return [one.entry for one in tamperings(incident_id, entries, count, head)]


def test_a_timeline_that_nobody_touched_is_whole() -> None:
    for length in (0, 1, 7):
        entries = timeline(length)
        assert found(entries, length, entries[-1].hash if entries else FIRST_HASH) == []


@given(length=st.integers(1, 12), data=st.data())
def test_each_tampering_is_found_where_it_was_done(length: int, data: st.DataObject) -> None:
    entries = timeline(length)
    head = entries[-1].hash
    at = data.draw(st.integers(0, length - 1), label="at")
    change: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {"text": "nothing happened"},
                {"actor": "bob"},
                {"actor_kind": "run"},
                {"at": entries[at].at + timedelta(microseconds=1)},
                {"detail": {"n": 0}},
                {"kind": "opened"},
                {"state_to": "resolved"},
                {"state_from": "detected"},
            ]
        ),
        label="change",
    )
    changed = [*entries[:at], replace(entries[at], **change), *entries[at + 1 :]]
    assert found(changed, length, head)[0] == at + 1
    # The hash made to fit: now the next entry does not follow, or the incident knows another end.
    fitted = replace(changed[at], hash=entry_hash("INC-1", changed[at]))
    assert found([*entries[:at], fitted, *entries[at + 1 :]], length, head) == [min(at + 2, length)]
    taken_out = [*entries[:at], *entries[at + 1 :]]
    assert at + 1 in found(taken_out, length, head)
    if at:
        swapped = [*entries[: at - 1], entries[at], entries[at - 1], *entries[at + 1 :]]
        assert found(swapped, length, head)


def test_an_end_that_was_cut_off_or_added_is_found() -> None:
    entries = timeline(5)
    assert found(entries[:3], 5, entries[-1].hash) == [4]
    assert found(entries, 4, entries[3].hash) == [5]
    assert found([], 2, entries[1].hash) == [1]


def test_a_timeline_made_anew_is_told_by_the_head_that_was_kept_elsewhere() -> None:
    forged = timeline(3)
    forged[2] = replace(forged[2], text="all is well")
    forged[2] = replace(forged[2], hash=entry_hash("INC-1", forged[2]))
    assert found(forged, 3, timeline(3)[2].hash) == [3]
    assert found(forged, 3, forged[2].hash) == []  # with the incident's own record changed too, nothing shows here


def test_entries_of_another_incident_do_not_fit() -> None:
    entries = timeline(2, "INC-2")
    assert found(entries, 2, entries[-1].hash) == [1, 2]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_kept_is_json_and_comes_back_as_it_was(value: Any) -> None:
    kept = plain(value)
    text = json.dumps(kept, allow_nan=False)
    text.encode("utf-8")
    assert json.loads(text) == kept
    assert "\\u0000" not in text.replace("\\\\u0000", "")
    assert plain(kept) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b", "a\\u0000b"),
        ("\ud800", "\\ud800"),
        ("postgresql+psycopg://lander:s3cr:t@host/db is down", "postgresql+psycopg://lander:…@host/db is down"),
        ("see https://example.org/a?b=c@d", "see https://example.org/a?b=c@d"),
        ("three\nlines\nstay", "three\nlines\nstay"),
    ],
)
def test_texts_hold_no_secret_and_nothing_the_database_refuses(text: str, kept: str) -> None:
    assert clean(text) == kept
