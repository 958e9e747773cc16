"""One case is found wherever it is, in the order data takes, and where it stops is said."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.case import canonical_uuid, fits_text
from incident_pipelines.core.contracts.model import EventContract, RowsContract
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines.core.masking import masked_message
from incident_pipelines.core.trace import Sighting, Trace
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.landing.state import landing_status
from incident_pipelines.stages.prepare import prepare_control, prepare_warehouse
from incident_pipelines.stages.publication.publish import RefusedByRules, publish_window
from incident_pipelines.stages.trace import trace
from incident_pipelines_tests.builders import write_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import lander, query, wait_for
from incident_pipelines_tests.stages.shop_catalog import CATALOG, CONTRACT, ORDERS, ROWS, TOTALS, TOTALS_SQL

CUSTOMER = "Grace Brewster Hopper"
AT = datetime(2026, 3, 1, 10, 15, tzinfo=UTC)


@dataclass
class Shop:
    """A shop with one topic, two databases and one mart."""

    databases: Databases
    variables: dict[str, str]
    topic: str
    log: Path
    order_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self.catalog = load_catalog(self.variables)
        self.warehouse = postgres_engine(self.variables["WAREHOUSE_URL"], "test")

    def event(self, **changes: Any) -> bytes:
        event = {
            "event_id": str(uuid.uuid4()),
            "event_type": "ordered",
            "order_id": self.order_id,
            "customer": CUSTOMER,
            "amount": 9.5,
            "occurred_at": AT.isoformat(),
            **changes,
        }
        return json.dumps(event).encode()

    def land(self, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.variables["KAFKA_BOOTSTRAP_SERVERS"]})
        for value in values:
            producer.produce(self.topic, value=value, partition=0)
        assert producer.flush(30) == 0
        with lander(self.variables, self.log, group=self.topic):
            wait_for(
                lambda: (statuses := landing_status(self.variables)) and all(s.lag == 0 for s in statuses), "all landed"
            )

    def insert(self, purpose: str, table: str, row_id: int, order_id: str | None = None) -> None:
        query(
            self.databases.url(purpose),
            f"INSERT INTO {table} VALUES (%s, %s, %s, %s, now(), 'of no contract')",
            row_id,
            order_id or self.order_id,
            CUSTOMER,
            AT,
        )

    def extract(self) -> None:
        for contract in self.catalog.landed.values():
            if isinstance(contract, RowsContract):
                source = postgres_engine(self.variables[self.catalog.sources[contract.origin.source]], "test")  # type: ignore[union-attr]
                extract_changes(source, self.warehouse, self.catalog, contract, now=datetime.now(UTC))
                source.dispose()

    def publish(self, *datasets: str) -> None:
        for dataset in datasets:
            contract = self.catalog.landed.get(dataset) or self.catalog.marts[dataset].contract
            publish_window(self.warehouse, self.catalog, dataset, self.catalog.window_of(contract, AT), owner="test")

    def trace(self, order_id: str | None = None, **variables: str) -> Trace:
        return trace(self.catalog, self.variables | variables, order_id or self.order_id)

    def run(self, order_id: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "incident_pipelines.cli", "trace", order_id, *options],
            env={"PATH": "/usr/bin:/bin", "COLUMNS": "220", **self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def shop(own_databases: Databases, new_topic: Callable[..., str], tmp_path: Path) -> Shop:
    topic = new_topic("orders")
    files = {
        "orders.yaml": ORDERS.format(name="orders", topic=topic),
        "shop_orders.yaml": (CONTRACT + ROWS).format(name="shop_orders", source="shop", table="orders"),
        "bookings.yaml": (CONTRACT + ROWS).format(name="bookings", source="ledger", table="bookings"),
        "marts/order_totals.yaml": TOTALS,
    }
    variables = {
        **own_databases.environment("owner"),
        **write_catalog(tmp_path / "catalog", files, CATALOG),
        "INCIDENT_PIPELINES_START": "",
    }
    sql = tmp_path / "catalog" / "sql" / "marts" / "order_totals.sql"
    sql.write_text(TOTALS_SQL, encoding="utf-8")
    for purpose, table in (("app", "orders"), ("billing", "bookings")):
        query(
            own_databases.url(purpose),
            f"CREATE TABLE {table} (row_id bigint PRIMARY KEY, order_id uuid, customer text, created_at timestamptz, "
            "updated_at timestamptz, secret text)",
        )
    prepare_warehouse(own_databases.url("warehouse"), load_catalog(variables))
    prepare_control(own_databases.url("control"))
    return Shop(own_databases, variables, topic, tmp_path / "log")


def _stage(found: Trace, stage: str) -> list[Sighting]:
    return [sighting for sighting in found.sightings if sighting.stage == stage]


@pytest.mark.stack
def test_a_whole_case_in_the_order_data_takes(shop: Shop) -> None:
    ordered, paid = shop.event(), shop.event(event_type="paid", occurred_at=(AT + timedelta(minutes=3)).isoformat())
    shop.insert("app", "orders", 1)
    shop.insert("billing", "bookings", 1)
    shop.insert("app", "orders", 2, str(uuid.uuid4()))
    shop.extract()
    shop.land(ordered, shop.event(order_id=str(uuid.uuid4())), paid, ordered)
    shop.publish("orders", "shop_orders", "bookings", "order_totals")
    found = shop.trace()
    assert found.verdict == "complete: ledger, shop -> kafka -> landing -> raw -> marts.order_totals"
    assert found.complete
    stages = [sighting.stage for sighting in found.sightings]
    assert stages == ["source"] * 2 + ["kafka"] * 3 + ["landing"] * 5 + ["raw"] * 4 + ["marts"]
    assert {s.status for s in _stage(found, "kafka")} == {"held, bytes equal"}
    assert sorted(s.place for s in _stage(found, "kafka")) == [f"{shop.topic}[0] offset {n}" for n in (0, 2, 3)]
    landed = sorted(s.status for s in _stage(found, "landing") if s.dataset == "orders")
    assert landed[0].startswith("duplicate of position 0 of partition 0")
    assert landed[1:] == ["in raw", "in raw"]
    assert all(s.delay_seconds is not None for s in found.sightings if s.stage in ("landing", "raw", "marts"))
    shown = json.dumps([s.values for s in found.sightings], ensure_ascii=False)
    assert "Gr…" in shown
    assert "Hopper" not in shown
    assert "of no contract" not in shown
    printed = shop.run(shop.order_id.upper())
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.splitlines()[-1].startswith("complete: ")
    assert "Hopper" not in printed.stdout
    as_json = json.loads(shop.run(shop.order_id, "--json").stdout)
    assert as_json["complete"] is True
    assert len(as_json["sightings"]) == len(stages)


@pytest.mark.stack
def test_where_a_case_stops(shop: Shop) -> None:
    good = shop.event()
    shop.land(good)
    found = shop.trace()
    assert found.verdict == (
        "stops: orders landed but is not in raw: the window is not published yet (way so far: kafka -> landing)"
    )
    shop.publish("orders")
    found = shop.trace()
    assert "marts.order_totals has no row for its day 2026-03-01: the window is not published yet" in found.verdict
    shop.publish("order_totals")
    assert shop.trace().complete
    shop.land(shop.event(event_type="paid"))
    shop.publish("orders")
    query(shop.variables["WAREHOUSE_URL"], "DELETE FROM raw.orders WHERE event_type = 'paid'")
    assert "raw was changed by something else" in shop.trace().verdict
    shop.publish("orders")
    assert shop.trace().complete
    shop.land(shop.event(event_type="lost"))
    found = shop.trace()
    assert "orders landed as a dead letter: not_allowed at $.event_type" in found.verdict
    assert "Hopper" not in json.dumps([s.values for s in found.sightings])


@pytest.mark.stack
def test_rows_that_are_not_landed_changed_or_gone(shop: Shop) -> None:
    shop.insert("app", "orders", 1)
    assert "shop public.orders holds a row that is not landed yet" in shop.trace().verdict
    shop.extract()
    shop.publish("shop_orders")
    assert shop.trace().verdict == "complete: shop -> landing -> raw"
    query(shop.databases.url("app"), "UPDATE orders SET customer = 'Ada Lovelace', updated_at = now() + interval '1 s'")
    assert "shop public.orders was changed after it was landed" in shop.trace().verdict
    shop.extract()
    shop.publish("shop_orders")
    found = shop.trace()
    assert found.complete
    assert sorted(s.status.split(" of ")[0].split(" than ")[0] for s in _stage(found, "landing")) == ["in raw", "older"]
    query(shop.databases.url("warehouse"), "DELETE FROM raw.shop_orders")
    assert "raw was changed by something else" in shop.trace().verdict


@pytest.mark.stack
def test_quarantined_and_refused(shop: Shop) -> None:
    event_id = str(uuid.uuid4())
    shop.land(shop.event(), shop.event(event_id=event_id), shop.event(event_id=event_id, amount=1))
    others = [shop.event(order_id=str(uuid.uuid4())) for _ in range(4)]
    shop.land(*others)
    shop.publish("orders")
    found = shop.trace()
    assert [s.stage for s in found.sightings].count("quarantine") == 2
    assert "orders is in quarantine: conflicting_copies" in found.verdict
    copies = str(uuid.uuid4())
    shop.land(*[shop.event(event_id=copies, amount=n) for n in range(40)])
    with pytest.raises(RefusedByRules):
        shop.publish("orders")
    found = shop.trace()
    assert "orders landed but is not in raw: the window was refused by" in found.verdict


@pytest.mark.stack
def test_records_far_apart_are_read_back(shop: Shop) -> None:
    strangers = [shop.event(order_id=str(uuid.uuid4())) for _ in range(1_400)]
    paid = [shop.event(event_type="paid") for _ in range(3)]
    shop.land(shop.event(), *strangers[:700], paid[0], paid[1], *strangers[700:], paid[2])
    shop.publish("orders", "order_totals")
    kafka = _stage(shop.trace(), "kafka")
    assert [s.place.rpartition(" ")[2] for s in kafka] == ["0", "701", "702", "1403"]
    assert {s.status for s in kafka} == {"held, bytes equal"}


@pytest.mark.stack
def test_aged_out_altered_recreated_and_deleted(shop: Shop) -> None:
    shop.land(shop.event(), shop.event(event_type="paid"))
    shop.publish("orders", "order_totals")
    admin = AdminClient({"bootstrap.servers": shop.variables["KAFKA_BOOTSTRAP_SERVERS"]})
    admin.delete_records([TopicPartition(shop.topic, 0, 1)])[TopicPartition(shop.topic, 0)].result(10)
    found = shop.trace()
    assert found.complete
    assert [s.status for s in _stage(found, "kafka")] == ["aged out (the partition starts at 1)", "held, bytes equal"]
    query(shop.variables["WAREHOUSE_URL"], "UPDATE landing.orders SET value = 'x' WHERE position = 1")
    found = shop.trace()
    assert f"{shop.topic}[0] offset 1 holds other bytes than were landed" in found.verdict
    query(shop.variables["WAREHOUSE_URL"], "UPDATE landing.origins SET topic_id = 'another' WHERE topic IS NOT NULL")
    assert {s.status for s in _stage(shop.trace(), "kafka")} == {"gone: the topic was deleted and made again"}
    admin.delete_topics([shop.topic])[shop.topic].result(10)
    wait_for(lambda: shop.topic not in admin.list_topics(timeout=5).topics, "topic is gone")
    assert {s.status for s in _stage(shop.trace(), "kafka")} == {"gone: the topic was deleted"}


@pytest.mark.stack
def test_what_is_down_is_named_and_the_rest_is_shown(shop: Shop) -> None:
    shop.insert("app", "orders", 1)
    shop.extract()
    shop.land(shop.event())
    shop.publish("orders", "shop_orders", "order_totals")
    nowhere = "postgresql://nobody:geheim@127.0.0.1:1/none"
    for variable, name, stages in (
        ("BILLING_DATABASE_URL", "ledger", {"source", "kafka", "landing", "raw", "marts"}),
        ("WAREHOUSE_URL", "warehouse", {"source"}),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka", {"source", "kafka", "landing", "raw", "marts"}),
    ):
        address = "127.0.0.1:1" if name == "kafka" else nowhere
        printed = shop.run(shop.order_id, "--json", **{variable: address})
        assert printed.returncode == 2, printed.stderr
        found = json.loads(printed.stdout)
        assert list(found["unavailable"]) == [name]
        assert {s["stage"] for s in found["sightings"]} == stages
        assert "complete" not in found["verdict"]
        assert "geheim" not in printed.stdout + printed.stderr
        assert "Traceback" not in printed.stderr
    printed = shop.run(shop.order_id, BILLING_DATABASE_URL=nowhere)
    assert "unavailable" in printed.stdout
    query(shop.databases.url("app"), "ALTER TABLE orders DROP COLUMN customer")
    assert "has no column customer" in shop.trace().unavailable["shop"]


@pytest.mark.stack
def test_an_unknown_id_is_said_to_be_unknown(shop: Shop) -> None:
    for order_id in (str(uuid.uuid4()), "no uuid", "'; DROP TABLE raw.orders; --", "x" * 300, "[red]", " "):
        printed = shop.run(order_id)
        assert printed.returncode == 1, printed.stdout + printed.stderr
        assert "no trace of correlation id" in printed.stderr
        assert "Traceback" not in printed.stderr
    assert not shop.trace("a\x00b").found
    assert not shop.trace("\udcff").found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["customer", "after"]), inner)
    ),
    max_leaves=10,
)


@given(value=st.binary() | JSON.map(lambda found: json.dumps(found).encode()))
def test_personal_data_is_masked_at_any_depth(value: bytes) -> None:
    contract = _orders()
    json.dumps(masked_message(contract, value), allow_nan=False).encode()
    secret = json.dumps({"after": {"customer": CUSTOMER, "x": CUSTOMER}, "y": [{"customer": [CUSTOMER]}]}).encode()
    assert "race" not in json.dumps(masked_message(contract, secret + value))
    assert "race" not in json.dumps(masked_message(contract, secret))


@given(st.text())
def test_any_text_may_be_asked_for(text: str) -> None:
    assert fits_text(text) is None or fits_text(text)
    canonical = canonical_uuid(text)
    assert canonical is None or uuid.UUID(canonical)


def test_uuids_in_any_case_are_the_same() -> None:
    some = uuid.uuid4()
    assert canonical_uuid(f" {str(some).upper()} ") == str(some)
    assert canonical_uuid(some.hex) is None


def _orders() -> EventContract:
    contract = parse_contract("orders.yaml", ORDERS.format(name="orders", topic="orders"))
    assert isinstance(contract, EventContract)
    return contract
