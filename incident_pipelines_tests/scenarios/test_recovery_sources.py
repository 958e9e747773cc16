"""Every source that claims an hour of the example gives back exactly the events that landed in it."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from incident_pipelines.adapters.catalog_files import catalog_folder
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.kafka.consumer import offset_bounds
from incident_pipelines.adapters.recovery_sources import kafka as kafka_source
from incident_pipelines.adapters.recovery_sources import recovery_sources
from incident_pipelines.adapters.recovery_sources.control_totals import declared_by_segment, segment_columns
from incident_pipelines.adapters.recovery_sources.landing_log import LandingLogSource
from incident_pipelines.adapters.recovery_sources.source import Problem
from incident_pipelines.cli import app
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.recovery.coverage import (
    AUDIT_LOG,
    DATABASE_EXTRACT,
    KAFKA,
    LANDING_LOG,
    Coverage,
    Recoverability,
)
from incident_pipelines.core.recovery.findings import ONLY_COPY_EXPIRING, RECOVERY_SOURCE_UNUSABLE
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.defs.recovery.map import RECOVERABILITY_MAP, recoverability_definitions
from incident_pipelines.defs.resources import resources_for
from incident_pipelines.example.databases import create_tables
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.log_append import landing_log
from incident_pipelines.example.prepare import load_history
from incident_pipelines.example.progress import minute_of
from incident_pipelines.example.settings import settings_from
from incident_pipelines.example.simulate import Simulation
from incident_pipelines.example.sinks import KafkaSink
from incident_pipelines.example.topics import create_topics
from incident_pipelines.example.visits import World
from incident_pipelines.stages.landing.extract import extract_changes
from incident_pipelines.stages.prepare import prepare
from incident_pipelines.stages.recovery.recoverability import (
    days_of,
    recoverability,
    recoverability_map,
    watch_recoverability,
)
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.defs.runs import environment as variables_set
from incident_pipelines_tests.defs.runs import launch
from incident_pipelines_tests.landing_tools import lander, query, replayed, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

HOURS = 3
RATE = 0.1
PREFIX = "recoverable_"
EVENTS = ("registrations", "payments", "page_views")
SOURCES = {
    "registrations": (LANDING_LOG, KAFKA, DATABASE_EXTRACT, AUDIT_LOG),
    "payments": (LANDING_LOG, KAFKA, AUDIT_LOG, DATABASE_EXTRACT),
    "page_views": (LANDING_LOG, KAFKA),
}
NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"


@dataclass(frozen=True)
class Example:
    """The example's history of some hours, sent through Kafka and landed.

    Args:
        environment: of the process that reads.
        hours: that are over, whole and have settled.
    """

    catalog: Catalog
    environment: dict[str, str]
    databases: Databases
    audit: Path
    hours: tuple[TimeWindow, ...]
    now: datetime

    def read(self, dataset: str, source: str, window: TimeWindow, problems: list[Problem] | None = None) -> Any:
        """Event id → contract fields and key of what a source yields; a repeated event must be the same again."""
        names = {column.name for column in self.catalog.landed[dataset].columns}
        told = [] if problems is None else problems
        found: dict[str, Any] = {}
        for sent, key, value in replayed(
            recovery_sources(self.catalog, self.environment)[source], dataset, window, told.append
        ):
            event = json.loads(value, parse_float=Decimal, parse_int=Decimal)
            fields = {name: event[name] for name in names & event.keys()} | {"key": key}
            assert found.setdefault(event["event_id"], fields) == fields
            assert sent > 1_700_000_000_000
        return found

    def covered(self, dataset: str, environment: dict[str, str] | None = None) -> list[Recoverability]:
        """What can be replayed of each hour."""
        variables = environment or self.environment
        sources = recovery_sources(self.catalog, variables)
        contract = self.catalog.landed[dataset]
        return recoverability(self.catalog, variables, contract, self.hours, self.now, sources, [])

    def of(self, dataset: str, source: str, environment: dict[str, str] | None = None) -> list[Coverage]:
        """What a source can replay of each hour."""
        found = [day.of(source) for day in self.covered(dataset, environment)]
        assert None not in found
        return [one for one in found if one is not None]


def _variables(folder: Path, prefix: str, start: datetime) -> dict[str, str]:
    """The variables of an example with topics, a catalog and a home of its own."""
    shutil.copytree(catalog_folder({}), folder / "catalog")
    for topic in TOPICS:
        contract = folder / "catalog" / "contracts" / f"{topic}.yaml"
        text = contract.read_text()
        assert f"- property: topic\n  value: {topic}\n" in text
        contract.write_text(text.replace(f"topic\n  value: {topic}\n", f"topic\n  value: {prefix}{topic}\n"))
    return {
        "EXAMPLE_TOPIC_PREFIX": prefix,
        "INCIDENT_PIPELINES_HOME": str(folder / "home"),
        "INCIDENT_PIPELINES_START": start.isoformat(),
        "INCIDENT_PIPELINES_CATALOG": str(folder / "catalog"),
        "APP_AUDIT_LOG": str(folder / "home" / "example" / "audit"),
    }


@pytest.fixture(scope="module")
def example(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("example")
    now = datetime.now(UTC)
    end = TimeWindow.hour_of(now - HOUR).start
    variables = _variables(folder, PREFIX, end - HOURS * HOUR)
    settings = settings_from({**databases.environment("owner"), **variables})
    names = [PREFIX + topic for topic in TOPICS]
    create_topics(settings.kafka, names)
    catalog = prepare({**databases.environment("owner"), **variables})
    with closing(KafkaSink(settings)) as sink:
        first = minute_of(end - HOURS * HOUR)
        written = Simulation(settings, World(5, RATE), sink).run(first, first + HOURS * 60)
    url = databases.url("warehouse")

    def landed() -> bool:
        return all(
            query(url, f"SELECT count(*) FROM landing.{topic}")[0][0] >= written.totals[topic].events
            for topic in TOPICS
        )

    with lander({**databases.environment("lander"), **variables}, folder / "lander.log"):
        wait_for(landed, "all events landed")
    warehouse = postgres_engine(databases.url("warehouse", "publisher"), "test")
    for dataset, source in (("app_plans", "app"), ("app_registrations", "app"), ("billing_payments", "billing")):
        engine = postgres_engine(databases.url(source, "source_reader"), "test")
        rows = catalog.landed[dataset]
        assert isinstance(rows, RowsContract)
        extract_changes(engine, warehouse, catalog, rows, now=datetime.now(UTC))
        engine.dispose()
    warehouse.dispose()
    yield Example(
        catalog,
        {**databases.environment("publisher"), **variables},
        databases,
        folder / "home" / "example" / "audit",
        tuple(TimeWindow.hour_of(end - number * HOUR) for number in range(HOURS, 0, -1)),
        now,
    )
    admin = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 0})
    for deleted in admin.delete_topics(names).values():
        deleted.result(timeout=10)


@pytest.mark.parametrize("dataset", EVENTS)
def test_events_are_counted_by_segment_as_their_producer_declares_them(example: Example, dataset: str) -> None:
    columns = segment_columns(example.catalog, dataset)
    assert columns == ("region", "platform")
    events = [one for hour in example.hours for one in example.read(dataset, LANDING_LOG, hour).values()]
    counted = Counter(tuple(one[name] for name in columns) for one in events)
    assert len(counted) > 1
    log = LandingLogSource(example.catalog, example.environment)
    assert log.by_segment(dataset, example.hours, columns) == counted
    assert declared_by_segment(example.catalog, example.environment, dataset, example.hours) == counted


@pytest.mark.parametrize("dataset", EVENTS)
def test_sources_agree_to_the_event_and_the_field(example: Example, dataset: str) -> None:
    assert tuple(one.source for one in example.covered(dataset)[0].coverages) == SOURCES[dataset]
    for hour in example.hours:
        problems: list[Problem] = []
        landed = example.read(dataset, LANDING_LOG, hour, problems)
        assert len(landed) > 50
        for source in SOURCES[dataset][1:]:
            assert example.read(dataset, source, hour, problems) == landed, (dataset, source, hour)
        assert problems == []
        part = TimeWindow(hour.start + timedelta(minutes=7), hour.start + timedelta(minutes=8, microseconds=250_001))
        inside = {
            event_id
            for event_id, fields in landed.items()
            if part.start <= datetime.fromisoformat(fields["created_at"]) < part.end
        }
        for source in SOURCES[dataset]:
            assert example.read(dataset, source, part).keys() == inside, (dataset, source)


@pytest.mark.parametrize("dataset", EVENTS)
def test_control_totals_prove_who_has_everything(example: Example, dataset: str) -> None:
    for day in example.covered(dataset):
        truth = len(example.read(dataset, LANDING_LOG, day.window))
        assert day.declared == truth
        assert {(one.replays, one.events, one.complete) for one in day.coverages} == {(True, truth, True)}
        assert [one.source for one in day.chosen] == [LANDING_LOG]
        assert (day.gone_without().at_least, day.gone_without().at_most) == (0, 0)
        kafka = day.of(KAFKA)
        assert kafka is not None
        assert kafka.until is not None
        # The first record of the hour, and the 14 days of the topic.
        assert timedelta() <= kafka.until - timedelta(days=14) - day.window.start < timedelta(minutes=10)
        extract = day.of(DATABASE_EXTRACT)
        if extract:
            assert extract.until is not None
            assert abs(extract.until - timedelta(days=30) - example.now) < timedelta(minutes=10)


def test_without_control_totals_nothing_is_proved(example: Example) -> None:
    silent = {**example.environment, "APP_DATABASE_URL": NOWHERE}
    for day in example.covered("page_views", silent):
        assert day.declared is None
        assert {one.complete for one in day.coverages} == {None}
        assert day.gone_without().at_most == 0  # as many as landed, as far as anybody can say


def test_rows_can_be_read_again_as_they_are_now(example: Example) -> None:
    for one in example.of("app_registrations", DATABASE_EXTRACT):
        window = (one.window.start, one.window.end)
        statement = "SELECT count(*) FROM registrations WHERE created_at >= %s AND created_at < %s"
        assert one.events == query(example.databases.url("app"), statement, *window)[0][0] > 10
        source = recovery_sources(example.catalog, example.environment)[DATABASE_EXTRACT]
        assert len(replayed(source, "app_registrations", one.window, lambda problem: None)) == one.events


def test_an_outage_is_unknown_and_never_none(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "ANSWER_SECONDS", 1.0)
    down = {
        **example.environment,
        "WAREHOUSE_URL": NOWHERE,
        "BILLING_DATABASE_URL": NOWHERE,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    for day in example.covered("payments", down):
        for source in (LANDING_LOG, KAFKA, DATABASE_EXTRACT):
            one = day.of(source)
            assert one is not None
            assert (one.replays, one.events, one.complete, one.broken) == (None, None, None, False), source
            assert "cannot be reached" in one.reason
        audit = day.of(AUDIT_LOG)
        assert audit is not None
        assert audit.replays
        gone = day.gone_without()
        assert gone.unknown == (KAFKA, DATABASE_EXTRACT)


def test_the_map_is_an_asset_with_a_picture(example: Example) -> None:
    catalog = example.catalog
    definitions = dg.Definitions.merge(
        dg.Definitions(resources=resources_for(catalog), executor=dg.in_process_executor),
        recoverability_definitions(catalog),
    )
    with dg.DagsterInstance.ephemeral() as instance, variables_set(example.environment):
        assert launch(instance, definitions, [RECOVERABILITY_MAP], {}).is_success
        event = instance.get_latest_materialization_event(RECOVERABILITY_MAP)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert metadata["windows_safe_without_landing"] == metadata["windows"]
    assert metadata["sources_unknown"] == 0
    assert metadata["signals_raised"] == 0
    assert len(str(metadata["picture"])) < 1_000
    assert "| page_views | " in str(metadata["map"])


def test_the_command_shows_the_map(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example.environment.items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(app, ["recoverability", "--dataset", "payments", "--days", "2", "--json"])
    assert told.exit_code == 0, told.output
    shown = json.loads(told.stdout)
    days = [day for day in shown["days"] if day["declared"]]
    assert {source["source"] for day in days for source in day["sources"]} == set(SOURCES["payments"])
    assert all(day["gone_without_landing_log"]["at_most"] == 0 for day in days)
    table = CliRunner().invoke(app, ["recoverability", "--dataset", "payments", "--days", "2"])
    assert table.exit_code == 0
    assert "nothing gone" in table.output


def _audit_file(example: Example, dataset: str, window: TimeWindow) -> Path:
    return example.audit / f"{dataset}-{window.start:%Y-%m-%d}.jsonl"


def test_a_poisoned_line_is_told_and_its_neighbours_are_read(example: Example) -> None:
    hour = example.hours[1]
    file = _audit_file(example, "payments", hour)
    before = file.read_bytes()
    whole = example.read("payments", AUDIT_LOG, hour)
    try:
        lines = before.splitlines(keepends=True)
        taken = next(n for n, line in enumerate(lines) if f'"created_at":"{hour.start:%Y-%m-%dT%H}'.encode() in line)
        lost = json.loads(lines[taken])["event_id"]
        lines[taken] = lines[taken][:60] + b"\n"
        lines.insert(taken + 1, b"\xff\xfe no JSON\n")
        lines.insert(taken + 2, b'{"key":"k","event_id":"x"}\n')
        lines.insert(taken + 3, b'{"key":"k","value":{"event_id":null,"created_at":"yesterday"}}\n')
        lines.append(b'{"key":"k","value":{"event_id"')
        file.write_bytes(b"".join(lines))
        problems: list[Problem] = []
        assert example.read("payments", AUDIT_LOG, hour, problems).keys() == whole.keys() - {lost}
        told = {one.place: one.reason for one in problems}
        last = f"{file.name}:{len(lines)}"
        assert len(problems) == 5
        assert set(told) == {*(f"{file.name}:{taken + number}" for number in (1, 2, 3, 4)), last}
        assert "cut off" in told[last]
        one = next(one for one in example.of("payments", AUDIT_LOG) if one.window == hour)
        assert (one.events, one.complete) == (len(whole) - 1, False)
        assert f"{file.name}:{taken + 1} is no event" in one.reason
        assert "5 lines cannot be read in all" in one.reason
    finally:
        file.write_bytes(before)


def test_a_link_out_of_the_folder_is_not_followed(example: Example) -> None:
    hour = example.hours[1]
    file = _audit_file(example, "payments", hour)
    aside = file.rename(file.with_suffix(".aside"))
    try:
        file.symlink_to(next((example.audit.parent / "ground_truth").glob("*.bin")))
        one = next(one for one in example.of("payments", AUDIT_LOG) if one.window == hour)
        assert one.replays is None
        assert one.events is None
        file.unlink()
        gone = next(one for one in example.of("payments", AUDIT_LOG) if one.window == hour)
        assert (gone.replays, gone.complete) == (False, False)
        assert f"{file.name} is not there" in gone.reason
    finally:
        file.unlink(missing_ok=True)
        aside.rename(file)


def test_a_promised_source_that_cannot_replay_is_a_signal_until_it_can(example: Example) -> None:
    control = postgres_engine(example.databases.url("control", "publisher"), "test")
    later = datetime.now(UTC) + timedelta(days=1, hours=1)

    def watch(**changes: str) -> tuple[int, int]:
        variables = {**example.environment, **changes}
        found = recoverability_map(example.catalog, variables, later, 3, "payments")
        signals = watch_recoverability(example.catalog, control, found)
        return len(signals.raised), len(signals.cleared)

    try:
        assert watch() == (0, 0)
        assert watch(APP_AUDIT_LOG="") == (1, 0)
        assert watch(APP_AUDIT_LOG="") == (0, 0)
        kind, dataset, summary = query(
            example.databases.url("control"),
            "SELECT kind, dataset, detail->>'summary' FROM monitoring.signals WHERE cleared_at IS NULL",
        )[0]
        assert (kind, dataset) == (RECOVERY_SOURCE_UNUSABLE, "payments")
        assert "APP_AUDIT_LOG is not set" in summary
        assert watch(BILLING_DATABASE_URL=NOWHERE, WAREHOUSE_URL=NOWHERE) == (0, 0)  # nobody can say that it can
        assert watch() == (0, 1)
    finally:
        control.dispose()


def test_a_last_copy_that_ages_out_is_a_signal(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Landing loses an hour of page views that only Kafka has besides: with 13.5 days gone, that is soon over."""
    monkeypatch.setattr(kafka_source, "ANSWER_SECONDS", 1.0)
    control = postgres_engine(example.databases.url("control", "publisher"), "test")
    later = example.hours[0].start + timedelta(days=13, hours=12)
    url = example.databases.url("warehouse")
    hour = example.hours[0]
    query(url, "CREATE TABLE aside AS SELECT * FROM landing.page_views WHERE event_time < %s", hour.end)
    try:
        found = recoverability_map(example.catalog, example.environment, later, 15, "page_views")
        assert watch_recoverability(example.catalog, control, found).raised == ()
        query(url, "DELETE FROM landing.page_views WHERE event_time < %s", hour.end)
        found = recoverability_map(example.catalog, example.environment, later, 15, "page_views")
        assert len(watch_recoverability(example.catalog, control, found).raised) == 1
        kind, events, sources = query(
            example.databases.url("control"),
            "SELECT kind, (detail->>'events')::int, detail->'sources' FROM monitoring.signals WHERE cleared_at IS NULL",
        )[0]
        assert (kind, sources) == (ONLY_COPY_EXPIRING, [KAFKA])
        assert events == query(url, "SELECT count(*) FROM aside")[0][0]
        no_broker = {**example.environment, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        found = recoverability_map(example.catalog, no_broker, later, 15, "page_views")
        assert watch_recoverability(example.catalog, control, found).cleared == ()
    finally:
        query(url, "INSERT INTO landing.page_views SELECT * FROM aside ON CONFLICT DO NOTHING")
        query(url, "DROP TABLE aside")
    found = recoverability_map(example.catalog, example.environment, later, 15, "page_views")
    assert len(watch_recoverability(example.catalog, control, found).cleared) == 1
    control.dispose()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_topic_whose_log_start_moved_does_not_cover(example: Example, share: float) -> None:
    topic = PREFIX + "page_views"
    servers = example.environment["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test", "log_level": 0})
    with closing(consumer):
        cuts: list[TopicPartition] = []
        for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            bounds = offset_bounds(consumer, topic, number)
            cuts.append(TopicPartition(topic, number, bounds.start + int((bounds.end - bounds.start) * share)))
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for deleted in admin.delete_records(cuts).values():
        deleted.result(timeout=20)
    kafka = example.of("page_views", KAFKA)
    landed = example.of("page_views", LANDING_LOG)
    first = kafka[0]
    assert (first.replays, first.events, first.complete) == (False, 0, False)
    assert "6 of 6 partitions have dropped records" in first.reason
    assert kafka[-1].events == len(example.read("page_views", KAFKA, kafka[-1].window))
    days = example.covered("page_views")
    for one, log, day in zip(kafka, landed, days, strict=True):
        assert (one.complete is False) == (one.events != log.events)
        gone = day.gone_without()
        assert gone.at_most == gone.at_least == (log.events or 0) - (one.events or 0)
        assert [chosen.source for chosen in day.chosen] == [LANDING_LOG]
    if share == 1.0:
        assert {one.replays for one in kafka} == {False}
    control = postgres_engine(example.databases.url("control", "publisher"), "test")
    later = example.now + timedelta(days=1)
    found = recoverability_map(example.catalog, example.environment, later, 3, "page_views")
    signals = watch_recoverability(example.catalog, control, found)
    control.dispose()
    # The second time it is the same finding.
    assert len(signals.raised) == (1 if share < 1 else 0)


def test_a_history_that_never_went_through_kafka_is_not_owed_by_it(own_databases: Databases, tmp_path: Path) -> None:
    """As `up` loads it: straight into sources and log, days before the first record of the topics."""
    now = datetime.now(UTC)
    variables = _variables(tmp_path, "unsent_", TimeWindow.day_of(now - timedelta(days=2)).start)
    owner = {**own_databases.environment("owner"), **variables, "EXAMPLE_RATE": "0.02"}
    create_topics(owner["KAFKA_BOOTSTRAP_SERVERS"], ["unsent_" + topic for topic in TOPICS])
    catalog = prepare(owner)
    create_tables(settings_from(owner))
    with landing_log(owner) as append:
        load_history(owner, append, now, lambda text: None)
    found = recoverability_map(catalog, {**own_databases.environment("publisher"), **variables}, now)
    control = postgres_engine(own_databases.url("control", "publisher"), "test")
    assert watch_recoverability(catalog, control, found).raised == ()
    control.dispose()
    yesterday = {day.dataset: day for day in found.days if day.settled}
    for dataset in EVENTS:
        day = yesterday[dataset]
        kafka, landed = day.of(KAFKA), day.of(LANDING_LOG)
        assert kafka is not None
        assert landed is not None
        assert (kafka.replays, kafka.events) == (False, 0)
        assert (landed.events or 0) > 100
        assert landed.complete
        lost = landed.events if dataset == "page_views" else 0
        assert (day.gone_without().at_least, day.gone_without().at_most) == (lost, lost)


def test_the_map_reaches_as_far_as_anybody_keeps_events(example: Example) -> None:
    assert days_of(example.catalog) == 32  # the outboxes keep 30 days


def test_the_stack_tells_where_the_audit_log_is(example: Example) -> None:
    stack = example.databases.stack
    home = stack.environment("publisher")["INCIDENT_PIPELINES_HOME"]
    settings = settings_from({**stack.environment("owner"), "INCIDENT_PIPELINES_HOME": home})
    assert stack.environment("publisher")["APP_AUDIT_LOG"] == os.fspath(settings.folder / "audit")
    assert "APP_AUDIT_LOG" not in stack.environment("lander")
