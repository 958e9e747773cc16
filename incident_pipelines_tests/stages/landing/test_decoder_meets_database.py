"""One bad event must not fail an hour: whatever the decoder lets pass, PostgreSQL casts."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.stores.landing_log import copy_statement
from incident_pipelines.adapters.stores.log_append import append
from incident_pipelines.core.contracts.decoder import Envelopes, decoder_for, microseconds
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines.core.contracts.run_decoder import MessageDecoder, run_decoder_for
from incident_pipelines.core.landing import HourCount, LogBatch, Messages
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines.stages.publication.publish import publish_window
from incident_pipelines_tests.builders import EVERY_TYPE_YAML, START, write_catalog
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from(["Z", "z", "+00:00", "-23:59", "+15:59", "+16:00", "+23:59", "-00:00", "+0530", ""])
ODD_TEXTS = st.text(max_size=20) | st.sampled_from(["\x00", "\ud800", "\\u0000", "null", "'", '"'])
TIMES = st.builds(
    lambda when, digits, zone: f"{when:%Y-%m-%dT%H:%M:%S}{digits}{zone}",
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001
    st.sampled_from(["", ".1", ".999999", ".9999999", ".123456789012"]),
    ZONES,
)
WITHIN_THE_HOUR = st.builds(
    lambda micros, digits: (NOON + timedelta(microseconds=micros)).isoformat().replace("+00:00", digits),
    st.integers(0, 3_599_999_999),
    st.sampled_from(["Z", "+00:00"]),
)
NUMBERS = (
    st.integers()
    | st.integers(-(2**63) - 1, 2**63)
    | st.floats()
    | st.decimals(-100_000, 100_000, places=4).map(float)
    | st.sampled_from([1e400, 99999.9999, 100000.0, -0.0, 1e-9])
)
UUID = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9"
LITERAL = re.compile(rb'"literal:([^"]*)"')
LITERALS = st.sampled_from(
    ["0e99999999999", "1e-99999999999", "1E-4", "0e0", f"0.{'0' * 20_000}", f"1.{'0' * 400}"]
).map("literal:{}".format)
"""Numbers as they are written, which a double would not show."""
BROKEN_UUIDS = st.sampled_from(["g", "/", ":", "-", "@", "`", "G"]).flatmap(
    lambda wrong: st.sampled_from([0, 7, 8, 13, 35]).map(lambda at: f"{UUID[:at]}{wrong}{UUID[at + 1 :]}")
)
UUIDS = (
    BROKEN_UUIDS
    | st.uuids().map(str)
    | st.uuids().map(lambda u: str(u).upper())
    | st.uuids().map(lambda u: u.hex)
    | ODD_TEXTS
)
ODD: dict[str, st.SearchStrategy[Any]] = {
    "kind": ODD_TEXTS,
    "at": TIMES,
    "count": NUMBERS | ODD_TEXTS,
    "ratio": NUMBERS | LITERALS,
    "other": UUIDS,
    "ok": NUMBERS,
    "seen_at": TIMES,
    "day": st.dates().map(str) | ODD_TEXTS,
    "unknown": st.recursive(NUMBERS | ODD_TEXTS | LITERALS, lambda inner: st.lists(inner, max_size=2), max_leaves=4),
}
# One odd field in each reading: with more, hardly one of them would be let pass.
READINGS = st.sampled_from(sorted(ODD)).flatmap(
    lambda name: st.builds(
        lambda at, odd: {"kind": "k", "at": at, "count": None, "ok": True, name: odd}, WITHIN_THE_HOUR, ODD[name]
    )
)


@given(readings=st.lists(READINGS, min_size=1, max_size=60))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_what_the_decoder_accepts_can_be_published(
    readings: list[dict[str, Any]], databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("catalog")
    catalog = load_catalog(write_catalog(folder, {"readings.yaml": EVERY_TYPE_YAML}))
    url = databases.url("warehouse")
    prepare_warehouse(url, catalog)
    now = microseconds(NOON + timedelta(days=1))
    # Ids of their own: what is the same id twice is another test's.
    values = [LITERAL.sub(rb"\1", json.dumps({**reading, "id": str(uuid.uuid4())}).encode()) for reading in readings]
    sent = [now] * len(values)
    contract = catalog.landed["readings"]
    envelopes = MessageDecoder(contract, catalog.start).envelopes(values, sent, now)
    with psycopg.connect(driver_url(url)) as connection:
        append(connection, "readings", "history", Messages.of(values, sent), envelopes, landed_at=now)
    engine = postgres_engine(url, "test")
    good = [
        _time(int(at)) for at, reason in zip(envelopes.event_times, envelopes.reasons, strict=True) if reason is None
    ]
    for hour in {TimeWindow.hour_of(at) for at in good}:
        published = publish_window(engine, catalog, "readings", hour, owner="test")
        assert published.rows >= sum(1 for at in good if at in hour)
    engine.dispose()


def _time(at: int) -> datetime:
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


@given(
    readings=st.lists(READINGS, min_size=1, max_size=3),
    compact=st.booleans(),
    now=st.sampled_from([0, 1]),
    tail=st.sampled_from([b"", b"", b',"kind":"k"', b',"unknown":"\\ud800"', b',"unknown":"\xff"']),
)
@settings(max_examples=600, deadline=None)
def test_messages_decoded_together_are_those_decoded_one_by_one(
    readings: list[dict[str, Any]], compact: bool, now: int, tail: bytes
) -> None:
    contract = parse_contract("readings.yaml", EVERY_TYPE_YAML)
    assert isinstance(contract, EventContract)
    separators = (",", ":") if compact else None
    values = [
        LITERAL.sub(rb"\1", json.dumps({**reading, "id": str(uuid.uuid4())}, separators=separators).encode())
        for reading in readings
    ]
    values[-1] = values[-1][:-1] + tail + b"}"
    at = microseconds(NOON + timedelta(days=now))
    together = run_decoder_for(contract, START)(values, at)  # pyright: ignore[reportOptionalCall]
    one = decoder_for(contract, START)
    each = Envelopes.of(one(value, at, at) for value in values)
    if together is None:
        # Something odd is in one of them, or it is written in a way that has to be looked at by itself.
        assert any(each.reasons) or any(b"\\" in value or b'"unknown"' in value for value in values)
    else:
        assert [list(column) for column in together] == [list(column) for column in each]


def test_a_batch_holds_what_was_put_in(databases: Databases, tmp_path: Path) -> None:
    catalog = load_catalog(write_catalog(tmp_path, {"readings.yaml": EVERY_TYPE_YAML}))
    url = databases.url("warehouse")
    prepare_warehouse(url, catalog)
    long, none = "ü" * 300, None
    messages = Messages(
        [b"{}", None, b"", b"x" * 70_000], [5, None, 7, 8], [b"k", None, b"", b"key"], [None, b"[]", None, None]
    )
    envelopes = Envelopes(
        [0, 3_599_999_999, -1, 3_600_000_000],
        ["a", none, long, "d"],
        ["t", "t", none, long],
        [none, "é", "", "c"],
        ["1.0.0", none, "1.0.0", "1.0.0"],
        [none, "empty_value", none, none],
        [none, "$", none, none],
    )
    batch = LogBatch(7, 3, landed_at=11)
    batch.add([4, 5, 9, 12], messages, envelopes)
    with psycopg.connect(driver_url(url)) as connection:
        with connection.cursor() as cursor, cursor.copy(copy_statement("readings")) as copy:
            for piece in batch.copy_data():
                copy.write(piece)
        stored = connection.execute(
            "SELECT position, kafka_timestamp, key, headers, value, event_time, event_id, event_type, correlation_id, "
            "schema_version, reason, reason_path FROM landing.readings "
            "WHERE origin_id = 7 AND partition = 3 AND landed_at = '2000-01-01 00:00:00.000011Z' ORDER BY position"
        ).fetchall()
        connection.rollback()
    sent = [at if at is None else _time(at) for at in messages.sent]
    times = [_time(int(at)) for at in envelopes.event_times]
    assert stored == list(
        zip([4, 5, 9, 12], sent, messages.keys, messages.headers, messages.values, times, *envelopes[1:], strict=True)
    )
    assert batch.hours == {0: HourCount(2, 1, 4, 5), -1: HourCount(1, 0, 9, 9), 1: HourCount(1, 0, 12, 12)}
    assert batch.rows == 4
