"""What is gone for good leaves differences: they are explained by it, where it was lost and no more than were lost."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.core.incidents.scope import KeyedRows, Scope
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stages.incidents.exit_criteria import look_at_exit
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.differences_shop import WITH_ACCOUNTS, Shop, open_shop
from incident_pipelines_tests.stages.recovery.test_recover import loss_of
from incident_pipelines_tests.stages.recovery_shop import NOW, RUN, START, audited

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RECEIPTS, ACCOUNTS = "receipts_orders", "accounts_sums"
LOST = 20
HELD = NOW + timedelta(minutes=30)
FIRST = TimeWindow(START, START + HOUR)
BY_NOTHING = (None, None)
UNSENT = "INSERT INTO receipts VALUES ('00000000-0000-0000-0000-000000000001', 'o-x', 1, %s)"


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng, WITH_ACCOUNTS)
    opened.keep_accounts()
    yield opened
    opened.close()


def lose_for_good(shop: Shop, topic: str, rng: random.Random) -> tuple[str, list[str]]:
    """Lose events of the first hour that no source has; return the incident and their ids."""
    early = [name for name in sorted(shop.sent) if shop.sent_at(name) in FIRST]
    lost = rng.sample(early, LOST)
    shop.land([name for name in sorted(shop.sent) if name not in lost])
    shop.publish_all()
    shop.app("DELETE FROM outbox WHERE event_id = ANY (%s)", lost)
    return shop.lose(topic, 2 * LOST), lost


def explained(shop: Shop, name: str) -> set[tuple[str | None, str | None]]:
    """What the open differences of two sides are explained by."""
    return {one.explained for one in shop.open_differences(name)}


def test_what_is_gone_for_good_is_explained_and_the_incident_comes_to_its_end(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id, lost = lose_for_good(shop, topic, rng)
    for name in (RECEIPTS, ACCOUNTS):
        assert shop.reconcile(name, FIRST).signal_id is not None
        assert shop.reconcile(name).signal_id is not None
    assert take_signals(shop.control, shop.catalog, NOW).joined == (incident_id,)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    assert loss_of(shop, incident_id).unrecoverable == LOST
    by_loss = ("incident", incident_id)
    assert sorted(shop.open_differences(RECEIPTS)) == sorted(("missing", name, by_loss) for name in lost)
    # An order of which one event is left has another sum, one of which nothing is left has no row.
    orders = {shop.sent[name]["order_id"] for name in lost}
    assert {order for _, order, _ in shop.open_differences(ACCOUNTS)} == orders
    assert explained(shop, ACCOUNTS) == {by_loss}
    later = HELD - timedelta(minutes=1)
    for name in (RECEIPTS, ACCOUNTS):
        for hour in (FIRST, None):
            run = shop.reconcile(name, hour, later)
            assert (run.verdict, run.gap_rate, run.open_unexplained) == ("ok", 0, 0)
    assert look_at_exit(shop.control, shop.warehouse, shop.catalog, incident_id, RUN, HELD) == ()
    assert shop.incident(incident_id).state == "resolved"


def test_one_row_more_than_was_lost_leaves_them_all_unexplained(shop: Shop, topic: str, rng: random.Random) -> None:
    incident_id, _ = lose_for_good(shop, topic, rng)
    shop.app(UNSENT, FIRST.start)
    assert shop.recover(incident_id) == "escalated", shop.course(incident_id)
    assert f"{RECEIPTS}: {LOST + 1} rows still differ" in shop.course(incident_id).splitlines()[-1]
    assert explained(shop, RECEIPTS) == {BY_NOTHING}


@pytest.mark.parametrize(
    ("differ", "kind"),
    [
        ("UPDATE receipts SET amount = amount + 1 WHERE event_id = %s", "mismatched"),
        ("DELETE FROM receipts WHERE event_id = %s", "unexpected"),
    ],
)
def test_a_row_of_raw_that_should_not_be_there_is_not_explained_by_what_is_gone(
    shop: Shop, topic: str, rng: random.Random, differ: str, kind: str
) -> None:
    incident_id, lost = lose_for_good(shop, topic, rng)
    there = next(name for name in sorted(shop.sent) if shop.sent_at(name) in FIRST and name not in lost)
    shop.app(differ, there)
    assert shop.recover(incident_id) == "escalated", shop.course(incident_id)
    assert f"{RECEIPTS}: 1 rows still differ" in shop.course(incident_id).splitlines()[-1]
    found = shop.open_differences(RECEIPTS)
    assert [one for one in found if one.explained == BY_NOTHING] == [(kind, there, BY_NOTHING)]
    assert len(found) == LOST + 1


def test_a_row_that_is_missing_where_nothing_was_lost_keeps_the_incident_from_its_end(
    shop: Shop, topic: str, rng: random.Random
) -> None:
    incident_id, _ = lose_for_good(shop, topic, rng)
    shop.app(UNSENT, START + 4 * HOUR)
    shop.reconcile(RECEIPTS)
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    left = [one for one in shop.open_differences(RECEIPTS) if one.explained == BY_NOTHING]
    assert [one.kind for one in left] == ["missing"]
    assert look_at_exit(shop.control, shop.warehouse, shop.catalog, incident_id, RUN, HELD) == (
        "1 differences that nothing explains were found since it began",
    )
    assert shop.incident(incident_id).state == "recovered"


def test_what_a_silent_source_may_still_have_is_not_stated_to_be_gone(
    shop: Shop, topic: str, rng: random.Random, tmp_path: Path
) -> None:
    incident_id, _ = lose_for_good(shop, topic, rng)
    (tmp_path / "audit" / f"orders-{START:%Y-%m-%d}.jsonl").mkdir()  # a file that cannot be read
    assert shop.recover(incident_id) == "escalated", shop.course(incident_id)
    told = shop.course(incident_id).splitlines()[-1]
    assert f"{RECEIPTS}: {LOST} rows still differ" in told
    assert "audit_log does not answer" in told
    assert explained(shop, RECEIPTS) == {BY_NOTHING}


def test_what_another_source_still_has_is_not_stated_to_be_gone(
    shop: Shop, topic: str, rng: random.Random, tmp_path: Path
) -> None:
    """The outbox still counts what it has lost the content of: the first plan brings nothing, the second one all."""
    names = sorted(shop.sent)
    lost = rng.sample(names, LOST)
    shop.land([name for name in names if name not in lost])
    shop.publish_all()
    shop.app("UPDATE outbox SET value = NULL WHERE event_id = ANY (%s)", lost)
    audited(tmp_path, list(shop.sent.values()))
    assert shop.recover(shop.lose(topic, 2 * LOST)) == "recovered"
    explained_by_then = "SELECT max(open_incident), max(missing) FROM reconciliation.runs"
    ((incident, missing),) = query(shop.databases.url("control"), explained_by_then)
    assert incident == 0
    assert missing > 0, "the first plan was not compared"


def test_what_an_earlier_loss_explains_is_not_the_next_incidents(shop: Shop, topic: str, rng: random.Random) -> None:
    earlier, lost = lose_for_good(shop, topic, rng)
    assert shop.recover(earlier) == "recovered", shop.course(earlier)
    assert look_at_exit(shop.control, shop.warehouse, shop.catalog, earlier, RUN, HELD) == ()
    there = next(name for name in sorted(shop.sent) if shop.sent_at(name) in FIRST and name not in lost)
    shop.by_hand(f"UPDATE raw.orders SET amount = amount + 1 WHERE event_id = '{there}'", "raw.orders")
    incident_id = shop.incident_of(RECEIPTS)
    assert incident_id != earlier
    assert shop.recover(incident_id) == "recovered", shop.course(incident_id)
    with shop.control.connect() as connection:
        scope = latest_finding(connection, incident_id, "scope", Scope)
    assert scope is not None
    assert scope.differences == (KeyedRows(RECEIPTS, "mismatched", 1),)
    assert explained(shop, RECEIPTS) == {("incident", earlier)}
