"""What a person reports is brought to its end by its type; what a report does not say is asked for, not guessed."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.stores.incidents import change_state
from incident_pipelines.core.incidents.incident import Actor, IncidentType
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow
from incident_pipelines.stages.incidents.by_hand import Report, open_incident
from incident_pipelines.stages.incidents.contain import contain_incident
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages import recovery_shop
from incident_pipelines_tests.stages.recovery.test_recover import loss_of
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START, Shop, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

ANN = Actor("person", "ann")
TWO_HOURS = TimeWindow(START + HOUR, START + 3 * HOUR)


@pytest.fixture
def open_one(
    own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random
) -> Iterator[Callable[[], Shop]]:
    opened: list[Shop] = []

    def one() -> Shop:
        opened.append(open_shop(own_databases, tmp_path, new_topic("orders"), rng))
        return opened[0]

    yield one
    opened[0].close()


@pytest.fixture
def shop(open_one: Callable[[], Shop]) -> Shop:
    return open_one()


@pytest.fixture
def undeclared(open_one: Callable[[], Shop], monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose producer declares no control totals."""
    without = recovery_shop.RECOVERY.replace("control_totals: {source: shop, sql: totals.sql}\n", "")
    monkeypatch.setattr(recovery_shop, "RECOVERY", without)
    return open_one()


def report(
    shop: Shop,
    kind: IncidentType,
    window: TimeWindow | None = None,
    datasets: tuple[str, ...] = ("orders",),
    now: datetime = NOW,
) -> str:
    """Report something as a person does; return its incident, contained."""
    people = postgres_engine(shop.databases.url("control"), "ann")
    given = Report(kind, "something is wrong", datasets, window=window)
    incident_id = open_incident(people, shop.catalog, given, ANN, now).incident_id
    people.dispose()
    if not datasets or kind in ("pipeline_failure", "freshness_violation"):
        # Nobody runs a lander here that could be started, and nothing else is to be done.
        with shop.control.begin() as connection:
            change_state(connection, incident_id, "detected", "contained", RUN, "started by hand", now)
        return incident_id
    contained = contain_incident(shop.control, shop.warehouse, shop.catalog, shop.variables, incident_id, RUN, now)
    assert contained.state == "contained"
    return incident_id


def lose(shop: Shop, lost: list[str]) -> None:
    """Land and publish all but some events."""
    shop.land(sorted(shop.sent.keys() - set(lost)))
    shop.publish_all()


def sent_within(shop: Shop, window: TimeWindow) -> list[str]:
    return sorted(name for name, event in shop.sent.items() if datetime.fromisoformat(event["occurred_at"]) in window)


def assert_all_is_published(shop: Shop) -> None:
    assert shop.raw() == {name: Decimal(str(event["amount"])) for name, event in shop.sent.items()}
    ordered = sum(Decimal(str(one["amount"])) for one in shop.sent.values() if one["event_type"] == "ordered")
    assert shop.rows("SELECT sum(amount) FROM marts.turnover") == [(ordered,)]
    assert shop.rows("SELECT count(*) FROM publication.holds") == [(0,)]


@pytest.mark.parametrize("window", [TWO_HOURS, None])
@pytest.mark.parametrize("dataset", ["orders", "turnover"])
def test_a_loss_is_counted_against_control_totals_wherever_it_is(
    shop: Shop, rng: random.Random, window: TimeWindow | None, dataset: str
) -> None:
    lost = rng.sample(sorted(shop.sent), 90)
    lose(shop, lost)
    incident_id = report(shop, "data_loss", window, (dataset,))
    assert "orders" in shop.incident(incident_id).datasets
    assert shop.recover(incident_id) == "recovered"
    assert_all_is_published(shop)
    assert loss_of(shop, incident_id).recovered == len(lost)


def test_a_loss_of_long_ago_is_looked_for_where_the_person_says(shop: Shop) -> None:
    lost = sent_within(shop, TWO_HOURS)
    lose(shop, lost)
    later = NOW + 20 * DAY
    incident_id = report(shop, "data_loss", TWO_HOURS, now=later)
    assert shop.recover(incident_id, clock=lambda: later) == "recovered"
    assert_all_is_published(shop)


def test_without_control_totals_the_named_window_is_suspect_and_nothing_else(undeclared: Shop) -> None:
    named = sent_within(undeclared, TWO_HOURS)
    elsewhere = sent_within(undeclared, TimeWindow.hour_of(START + 5 * HOUR))
    lose(undeclared, [*named[::2], *elsewhere[::2]])
    incident_id = report(undeclared, "data_loss", TWO_HOURS)
    assert undeclared.recover(incident_id) == "recovered"
    assert undeclared.raw().keys() == undeclared.sent.keys() - set(elsewhere[::2])
    loss = loss_of(undeclared, incident_id)
    assert loss.recovered == len(named[::2])
    assert loss.unknown_at_most is None, "nobody can say that it was all"


@pytest.mark.parametrize("kind", ["corruption", "quality_degradation"])
def test_altered_rows_are_put_right_in_every_window_that_is_touched(shop: Shop, kind: IncidentType) -> None:
    lose(shop, [])
    half = timedelta(minutes=30)
    for hours in (1, 2, 3):
        shop.alter(TimeWindow.hour_of(START + hours * HOUR))
    query(shop.databases.url("warehouse"), "UPDATE marts.turnover SET amount = amount + 1")
    incident_id = report(shop, kind, TimeWindow(TWO_HOURS.start + half, TWO_HOURS.end + half))
    assert shop.recover(incident_id) == "recovered"
    assert_all_is_published(shop)


def test_an_altered_mart_is_made_again_from_what_is_published(shop: Shop) -> None:
    lose(shop, [])
    query(shop.databases.url("warehouse"), "UPDATE marts.turnover SET amount = amount + 1")
    incident_id = report(shop, "corruption", TWO_HOURS, ("turnover",))
    assert shop.recover(incident_id) == "recovered"
    assert_all_is_published(shop)


@pytest.mark.parametrize("kind", ["pipeline_failure", "freshness_violation"])
def test_what_was_landed_and_not_published_is_published(shop: Shop, kind: IncidentType) -> None:
    names = sorted(shop.sent)
    lose(shop, names[100:])
    shop.land(names[100:])
    assert shop.recover(report(shop, kind, datasets=("turnover",))) == "recovered"
    assert_all_is_published(shop)
    assert shop.rows("SELECT count(*) FROM landing.origins WHERE kind = 'recovery'") == [(0,)]


def test_a_mart_that_is_late_alone_is_published(shop: Shop) -> None:
    lose(shop, [])
    query(shop.databases.url("warehouse"), "DELETE FROM publication.windows WHERE dataset = 'turnover'")
    query(shop.databases.url("warehouse"), "UPDATE marts.turnover SET amount = 0")
    assert shop.recover(report(shop, "freshness_violation", datasets=("turnover",))) == "recovered"
    assert_all_is_published(shop)


@pytest.mark.parametrize(
    ("kind", "window", "datasets", "reason"),
    [
        ("corruption", None, ("orders",), "no window was named"),
        ("corruption", TWO_HOURS, (), "no dataset was named"),
        ("corruption", TimeWindow(NOW + DAY, NOW + 2 * DAY), ("orders",), "holds nothing of orders"),
        ("data_loss", None, (), "no dataset was named"),
        ("pipeline_failure", None, (), "no dataset was named"),
        ("breaking_schema_change", TWO_HOURS, ("orders",), None),
    ],
)
def test_what_a_report_does_not_say_is_asked_for(
    shop: Shop, kind: IncidentType, window: TimeWindow | None, datasets: tuple[str, ...], reason: str | None
) -> None:
    lose(shop, [])
    incident_id = report(shop, kind, window, datasets)
    assert shop.recover(incident_id) == "escalated"
    asked = [line for line in shop.page(incident_id).triage.what_data if line.startswith("not scoped: ")]
    assert len(asked) == (reason is not None)
    assert reason is None or reason in asked[0]


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (None, "no window was named, and orders has no control totals to count by"),
        (TimeWindow(NOW + HOUR, NOW + 2 * HOUR), "holds nothing of orders"),
    ],
)
def test_a_loss_that_nobody_can_count_is_a_persons(undeclared: Shop, window: TimeWindow | None, reason: str) -> None:
    names = sorted(undeclared.sent)
    lose(undeclared, names[100:])
    undeclared.land(names[100:200])  # that something is to be published does not say that nothing is missing
    incident_id = report(undeclared, "data_loss", window)
    assert undeclared.recover(incident_id) == "escalated"
    assert reason in " ".join(undeclared.page(incident_id).triage.what_data)
