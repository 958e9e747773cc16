"""What keeps rows from being written twice, or by somebody whose partition it no longer is, each on its own."""

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from incident_pipelines.adapters.stores.landing_log import Claim, Fenced, PostgresLandingLog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.decoder import microseconds
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.landing import LogBatch, Messages
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import order_bytes, orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = pytest.mark.stack

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made, _ = orders_catalog(Path(tmp_path_factory.mktemp("catalog")))
    prepare_warehouse(databases.url("warehouse"), made)
    return made


def batch(catalog: Catalog, claim: Claim) -> LogBatch:
    """Return the first event of a partition."""
    now, values = microseconds(NOW), [order_bytes()]
    filled = LogBatch(claim.origin_id, claim.partition, now)
    envelopes = MessageDecoder(catalog.landed["orders"], catalog.start).envelopes(values, [now], now)
    filled.add([0], Messages.of(values, [now]), envelopes)
    return filled


def test_who_was_taken_over_writes_nothing_although_no_offset_has_moved(databases: Databases, catalog: Catalog) -> None:
    url = databases.url("warehouse", "lander")
    before, after = PostgresLandingLog(url, "before"), PostgresLandingLog(url, "after")
    mine = before.claim("orders", "fenced", "id", 0, 0)
    theirs = after.claim("orders", "fenced", "id", 0, 0)
    assert theirs.next == mine.next
    with pytest.raises(Fenced, match="epoch 1 is not the latest"):
        before.append(mine, 0, 1, batch(catalog, mine))
    after.append(theirs, 0, 1, batch(catalog, theirs))
    with pytest.raises(Fenced):
        after.append(theirs, 0, 1, batch(catalog, theirs))
    assert query(url, "SELECT count(*) FROM landing.orders WHERE origin_id = %s", mine.origin_id) == [(1,)]
    before.close()
    after.close()


def test_an_offset_that_was_put_back_by_hand_writes_no_row_twice(databases: Databases, catalog: Catalog) -> None:
    url = databases.url("warehouse", "lander")
    log = PostgresLandingLog(url, "lander")
    claim = log.claim("orders", "keyed", "id", 0, 0)
    log.append(claim, 0, 1, batch(catalog, claim))
    query(databases.url("warehouse"), "UPDATE landing.offsets SET next = 0 WHERE topic = 'keyed'")
    with pytest.raises(psycopg.errors.UniqueViolation):
        log.append(claim, 0, 1, batch(catalog, claim))
    assert query(url, "SELECT count(*) FROM landing.orders WHERE origin_id = %s", claim.origin_id) == [(1,)]
    log.close()


def test_raw_takes_no_event_twice(databases: Databases, catalog: Catalog) -> None:
    url = databases.url("warehouse")
    columns = ", ".join(f'"{column.name}"' for column in catalog.landed["orders"].columns)
    row = (
        "INSERT INTO raw.orders (event_id, event_type, version, order_id, amount, occurred_at, landing_origin_id, "
        "landing_partition, landing_position) SELECT gen_random_uuid(), 'ordered', '1.0.0', 'o-1', 1, now(), 1, 0, n "
        "FROM generate_series(1, 2) n"
    )
    query(url, row)
    twice = f"INSERT INTO raw.orders SELECT {columns}, 1, 0, landing_position + 2 FROM raw.orders"
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(url, twice)
