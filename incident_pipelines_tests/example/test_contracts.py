"""Every event and row of the example meets its contract."""

from datetime import UTC, datetime

import msgspec
import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import POSTGRES_EPOCH, decoder_for, microseconds
from incident_pipelines.example.events import EVENT_TYPES, TOPICS
from incident_pipelines.example.history import History
from incident_pipelines.example.plans import PLANS
from incident_pipelines.example.progress import minute_of
from incident_pipelines.example.visits import World

START = datetime(2026, 11, 2, 16, 0, tzinfo=UTC)
_SHIFT_US = int((POSTGRES_EPOCH - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog({})


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_meets_its_contract(catalog: Catalog, seed: int) -> None:
    start = minute_of(START)
    events = History(World(seed, 5.0), start, start).advance(start + 15).events
    decoders = {topic: decoder_for(catalog.landed[topic], catalog.start) for topic in TOPICS}
    now = microseconds(datetime(2026, 11, 3, tzinfo=UTC))
    for event in events:
        envelope = decoders[event.topic](event.value, now, now)
        assert envelope.reason is None, (envelope, event.value)
        assert envelope.event_id == event.event_id
        assert envelope.event_time == event.time_us - _SHIFT_US
        assert envelope.correlation_id in (event.key, None) or event.topic == "page_views"
    assert {event.event_type for event in events} == set(EVENT_TYPES)


def test_every_field_of_a_contract_is_sent(catalog: Catalog) -> None:
    start = minute_of(START)
    events = History(World(1, 5.0), start, start).advance(start + 15).events
    for topic in TOPICS:
        sent = {name for event in events if event.topic == topic for name in msgspec.json.decode(event.value)}
        assert sent == {column.name for column in catalog.landed[topic].columns}


def test_plan_prices_are_whole_cents_in_each_currency() -> None:
    assert all(price == round(price, 2) >= 0 for plan in PLANS for price in plan.prices.values())
    assert sum(plan.share for plan in PLANS) == pytest.approx(1)
