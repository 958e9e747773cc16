"""What landing does with bad messages and with topics that are not as it left them."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.adapters.stores.landing_log import PostgresLandingLog
from incident_pipelines.stages.landing.state import LandingCommandRefused, landing_status, resume_landing
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import order_bytes, orders_catalog
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import landed_rows, lander, query, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

PLAIN = order_bytes()


def _with_unknown(text: bytes) -> bytes:
    return PLAIN[:-1] + b',"extra":' + text + b"}"


BAD = {
    "empty": (b"", "empty_value", "$"),
    "no value": (None, "empty_value", "$"),
    "not JSON": (b"hello", "invalid_json", "byte 0"),
    "cut": (PLAIN[:-5], "invalid_json", None),
    "array": (b"[1]", "wrong_type", "$"),
    "bad UTF-8": (order_bytes(note="x").replace(b'"x"', b'"\xff"'), "invalid_utf8", None),
    "bad UTF-8 in an unknown field": (_with_unknown(b'"\xff"'), "invalid_utf8", None),
    "nul": (order_bytes(note="a\x00b"), "nul_character", "$.note"),
    "nul in an unknown field": (_with_unknown(b'{"a":["\\u0000"]}'), "nul_character", "$.extra.a[0]"),
    "lone surrogate": (order_bytes(note="\ud800"), "lone_surrogate", "$.note"),
    "lone surrogate in an unknown field": (_with_unknown(b'"\\udc00"'), "lone_surrogate", "$.extra"),
    "10,000 deep": (order_bytes(note="x").replace(b'"x"', b"[" * 10_000 + b"]" * 10_000), "too_deep", "$"),
    "10,000 deep in an unknown field": (_with_unknown(b"[" * 10_000 + b"]" * 10_000), "too_deep", "$"),
    "NaN": (order_bytes(amount=float("nan")), "not_finite", "$.amount"),
    "NaN in an unknown field": (_with_unknown(b"NaN"), "not_finite", "$.extra"),
    "1e400": (order_bytes(amount=7).replace(b'"amount":7', b'"amount":1e400'), "number_out_of_range", "$.amount"),
    "1e400 in an unknown field": (_with_unknown(b"1e400"), "number_out_of_range", "$.extra"),
    "repeated key": (PLAIN[:-1] + b',"amount":1}', "repeated_key", "$.amount"),
    "repeated unknown key": (_with_unknown(b'{"a":1,"a":2}'), "repeated_key", "$.extra.a"),
    "wrong type": (order_bytes(amount="9.99"), "wrong_type", "$.amount"),
    "null": (order_bytes(order_id=None), "null_field", "$.order_id"),
    "negative": (order_bytes(amount=-0.01), "below_minimum", "$.amount"),
    "too large": (order_bytes(amount=1e10), "above_maximum", "$.amount"),
    "too precise": (order_bytes(amount=9.999), "too_many_decimals", "$.amount"),
    "unknown value": (order_bytes(event_type="lost"), "not_allowed", "$.event_type"),
    "renamed field": (order_bytes().replace(b'"amount"', b'"total"'), "missing_field", "$.amount"),
    "too long": (order_bytes(order_id="o" * 61), "wrong_length", "$.order_id"),
    "no uuid": (order_bytes(event_id="x" * 36), "not_a_uuid", "$.event_id"),
    "other version": (order_bytes(version="2.0.0"), "unknown_version", "$.version"),
    "year 2999": (order_bytes(occurred_at="2999-01-01T00:00:00Z"), "time_in_future", "$.occurred_at"),
    "before the start": (order_bytes(occurred_at="2025-12-31T23:59:59Z"), "time_before_start", "$.occurred_at"),
    "no zone": (order_bytes(occurred_at="2026-03-01T10:15:00"), "malformed_value", "$.occurred_at"),
}


@dataclass(frozen=True)
class Setting:
    """Variables of a lander and of an owner, and the topic with two partitions."""

    variables: Mapping[str, str]
    topic: str
    log: Path
    bootstrap_servers: str
    owner_url: str

    @property
    def warehouse_url(self) -> str:
        return self.variables["WAREHOUSE_URL"]

    def send(self, *values: bytes | None, partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "message.max.bytes": 1_000_000})
        for value in values:
            producer.produce(self.topic, value=value, partition=partition)
        assert producer.flush(30) == 0

    def caught_up(self) -> bool:
        statuses = landing_status(self.variables)
        return len(statuses) == 2 and all(s.lag == 0 or s.state == "stopped" for s in statuses)

    def facts(self) -> list[tuple[object, ...]]:
        return query(self.warehouse_url, "SELECT kind, dataset, detail FROM landing.facts ORDER BY fact_id")

    def recreate_topic(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        admin.delete_topics([self.topic])[self.topic].result(10)
        wait_for(lambda: self.topic not in admin.list_topics(timeout=5).topics, "topic is gone")

        def made() -> bool:
            return admin.create_topics([NewTopic(self.topic, 2, 1)])[self.topic].exception(10) is None

        wait_for(made, "topic is there again")


@pytest.fixture
def setting(own_databases: Databases, new_topic: Callable[..., str], tmp_path: Path) -> Setting:
    topic = new_topic("orders", partitions=2)
    catalog, variables = orders_catalog(tmp_path / "catalog", topic)
    owner_url = own_databases.url("warehouse")
    prepare_warehouse(owner_url, catalog)
    variables = {**own_databases.environment("lander"), **variables, "INCIDENT_PIPELINES_START": ""}
    return Setting(variables, topic, tmp_path / "log", own_databases.stack.bootstrap_servers, owner_url)


def test_bad_messages_are_dead_letters_and_their_neighbours_land(setting: Setting) -> None:
    good = [order_bytes(order_id=f"o-{number}") for number in range(len(BAD))]
    values = [value for pair in zip(good, (bad for bad, *_ in BAD.values()), strict=True) for value in pair]
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(*values)
        wait_for(
            lambda: setting.caught_up() and len(landed_rows(setting.warehouse_url, "orders")) == len(values),
            "all landed",
        )
    landed = landed_rows(setting.warehouse_url, "orders")
    assert [value for _, _, value, *_ in landed] == values
    assert [reason for *_, reason, _ in landed[::2]] == [None] * len(good)
    found = {name: (reason, path) for name, (*_, reason, path) in zip(BAD, landed[1::2], strict=True)}
    expected = {name: (reason, found[name][1] if path is None else path) for name, (_, reason, path) in BAD.items()}
    assert found == expected
    view = query(setting.owner_url, "SELECT count(*), min(redrive_state) FROM landing.dead_letters")
    assert view == [(len(BAD), "new")]


def test_aged_out_offsets_are_recorded_and_landing_goes_on(setting: Setting) -> None:
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(*[order_bytes() for _ in range(5)])
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 5 and setting.caught_up(), "first five")
    setting.send(*[order_bytes() for _ in range(20)])
    admin = AdminClient({"bootstrap.servers": setting.bootstrap_servers})
    admin.delete_records([TopicPartition(setting.topic, 0, 17)])[TopicPartition(setting.topic, 0)].result(10)
    with lander(setting.variables, setting.log, group=setting.topic):
        wait_for(lambda: setting.caught_up() and len(landed_rows(setting.warehouse_url, "orders")) == 13, "the rest")
    assert [position for _, position, *_ in landed_rows(setting.warehouse_url, "orders")] == [*range(5), *range(17, 25)]
    gaps = query(setting.warehouse_url, "SELECT topic, partition, from_offset, to_offset FROM landing.gaps")
    assert gaps == [(setting.topic, 0, 5, 17)]
    [(kind, dataset, detail)] = setting.facts()
    assert (kind, dataset) == ("offsets_aged_out", "orders")
    assert isinstance(detail, dict)
    assert (detail["from_offset"], detail["to_offset"]) == (5, 17)


def test_offsets_that_age_out_while_the_lander_waits_for_the_warehouse(setting: Setting) -> None:
    """Out of range is also noticed in mid-run: the position is compared with the log, never reset."""
    with lander(setting.variables, setting.log, group=setting.topic) as running:
        setting.send(order_bytes())
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 1 and setting.caught_up(), "first")
        running.signal(signal.SIGSTOP)
        setting.send(*[order_bytes() for _ in range(9)])
        admin = AdminClient({"bootstrap.servers": setting.bootstrap_servers})
        admin.delete_records([TopicPartition(setting.topic, 0, 8)])[TopicPartition(setting.topic, 0)].result(10)
        running.signal(signal.SIGCONT)
        wait_for(lambda: setting.caught_up() and landing_status(setting.variables)[0].next == 10, "the rest", 90)
    landed = {position for _, position, *_ in landed_rows(setting.warehouse_url, "orders")}
    gaps = query(setting.warehouse_url, "SELECT from_offset, to_offset FROM landing.gaps")
    lost = {offset for start, end in gaps for offset in range(int(str(start)), int(str(end)))}
    assert landed | lost == set(range(10))
    assert not landed & lost


def test_a_recreated_topic_stops_until_resumed(setting: Setting) -> None:
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(*[order_bytes() for _ in range(3)])
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 3, "three landed")
        setting.recreate_topic()
        after = [order_bytes(order_id="new") for _ in range(6)]
        setting.send(*after)
        wait_for(lambda: all(s.state == "stopped" for s in landing_status(setting.variables)), "topic has stopped")
        assert len(landed_rows(setting.warehouse_url, "orders")) == 3
        [(kind, _, detail)] = setting.facts()
        assert kind == "topic_recreated"
        assert isinstance(detail, dict)
        assert detail["topic_id"] != detail["known_topic_id"]
        resume_landing(setting.variables, setting.topic, "start")
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 9, "the new incarnation has landed")
    assert [value for _, _, value, *_ in landed_rows(setting.warehouse_url, "orders")].count(after[0]) == 1
    assert query(setting.warehouse_url, "SELECT count(DISTINCT origin_id) FROM landing.orders") == [(2,)]
    assert len(setting.facts()) == 1


def test_an_offset_beyond_the_end_stops_that_partition_alone(setting: Setting) -> None:
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(order_bytes())
        setting.send(order_bytes(), partition=1)
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 2 and setting.caught_up(), "two landed")
    query(setting.variables["WAREHOUSE_URL"], "UPDATE landing.offsets SET next = 500 WHERE partition = 0")
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(order_bytes())
        setting.send(order_bytes(), partition=1)
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 3, "the other partition goes on")
        first, second = landing_status(setting.variables)
        assert (first.state, first.stopped_reason, second.state) == ("stopped", "offset_beyond_end", "active")
        assert [kind for kind, *_ in setting.facts()] == ["offset_beyond_end"]
        with pytest.raises(LandingCommandRefused, match="no partition"):
            resume_landing(setting.variables, f"{setting.topic}:1", "start")
        with pytest.raises(LandingCommandRefused, match="holds 0 to 2"):
            resume_landing(setting.variables, f"{setting.topic}:0", "3")
        resume_landing(setting.variables, f"{setting.topic}:0", "1")
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 4, "the partition goes on")
    assert [(p, o) for p, o, *_ in landed_rows(setting.warehouse_url, "orders")] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_partitions_that_are_added_are_landed_from_their_start(setting: Setting) -> None:
    with lander(setting.variables, setting.log, group=setting.topic):
        setting.send(order_bytes())
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 1, "one landed")
        admin = AdminClient({"bootstrap.servers": setting.bootstrap_servers})
        admin.create_partitions([NewPartitions(setting.topic, 3)])[setting.topic].result(10)
        setting.send(order_bytes(), partition=2)
        wait_for(lambda: len(landed_rows(setting.warehouse_url, "orders")) == 2, "the new partition is landed")
    assert setting.facts() == []


def test_forbidden_statements_of_the_lander(setting: Setting) -> None:
    for statement in (
        "DELETE FROM landing.orders",
        "UPDATE landing.orders SET reason = 'x'",
        "SELECT 1 FROM raw.orders",
        "DROP TABLE landing.orders",
        "CREATE TABLE landing.mine (a int)",
        "DELETE FROM landing.gaps",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(setting.warehouse_url, statement)


@pytest.mark.parametrize("lock", ["FROM landing.offsets FOR UPDATE", "pg_advisory_xact_lock"])
def test_a_member_that_hangs_in_a_transaction_does_not_keep_its_partition(setting: Setting, lock: str) -> None:
    url = setting.warehouse_url
    before, after = (PostgresLandingLog(url, f"lander {name}") for name in ("before", "after"))
    claim = before.claim("orders", setting.topic, "id", 0, 0)
    hanging = psycopg.connect(driver_url(url), application_name="lander before writer")
    if lock.startswith("FROM"):
        hanging.execute("SELECT next FROM landing.offsets FOR UPDATE")
    else:
        hanging.execute("SELECT pg_advisory_xact_lock(hashtextextended('landing.topic:' || %s, 0))", (setting.topic,))
    bystander = psycopg.connect(driver_url(url), application_name="report")
    bystander.execute("SELECT count(*) FROM landing.offsets")
    taken = after.claim("orders", setting.topic, "id", 0, 0)
    assert taken.epoch == claim.epoch + 1
    with pytest.raises(psycopg.OperationalError):
        hanging.execute("SELECT 1")
    bystander.execute("SELECT 1")
    for connection in (before, after, hanging, bystander):
        connection.close()
