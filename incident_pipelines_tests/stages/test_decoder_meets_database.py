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
from incident_pipelines.adapters.stores.log_append import LogRow, append
from incident_pipelines.core.contracts.decoder import decoder_for, microseconds
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines.stages.publish import publish_window
from incident_pipelines_tests.builders import EVERY_TYPE_YAML, write_catalog
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
LITERAL = re.compile(rb'"literal:([^"]*)"')
LITERALS = st.sampled_from(
    ["0e99999999999", "1e-99999999999", "1E-4", "0e0", f"0.{'0' * 20_000}", f"1.{'0' * 400}"]
).map("literal:{}".format)
"""Numbers as they are written, which a double would not show."""
UUIDS = st.uuids().map(str) | st.uuids().map(lambda u: str(u).upper()) | st.uuids().map(lambda u: u.hex) | ODD_TEXTS
ODD: dict[str, st.SearchStrategy[Any]] = {
    "kind": ODD_TEXTS,
    "at": TIMES,
    "count": NUMBERS | ODD_TEXTS,
    "ratio": NUMBERS | LITERALS,
    "other": UUIDS,
    "ok": NUMBERS,
    "seen_at": TIMES,
    "day": st.dates().map(str) | ODD_TEXTS,
    "unknown": st.recursive(NUMBERS | ODD_TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4),
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
    decode = decoder_for(catalog.landed["readings"], catalog.start)
    now = microseconds(NOON + timedelta(days=1))
    rows: list[LogRow] = []
    for reading in readings:
        # Ids of their own: what is the same id twice is another test's.
        value = LITERAL.sub(rb"\1", json.dumps({**reading, "id": str(uuid.uuid4())}).encode())
        rows.append(LogRow(decode(value, now, now), value))
    with psycopg.connect(driver_url(url)) as connection:
        append(connection, "readings", "history", rows, landed_at=now)
    engine = postgres_engine(url, "test")
    hours = {TimeWindow.hour_of(_time(row)) for row in rows if row.envelope.reason is None}
    for hour in hours:
        published = publish_window(engine, catalog, "readings", hour, owner="test")
        assert published.rows >= sum(1 for r in rows if r.envelope.reason is None and _time(r) in hour)
    engine.dispose()


def _time(row: LogRow) -> datetime:
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=row.envelope.event_time)
