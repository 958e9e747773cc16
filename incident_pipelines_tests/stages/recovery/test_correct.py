"""A manual correction is shown, capped, agreed to by a second person, and appended once under its own origin."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.errors import InvalidDocument, SourceUnavailable
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.correction import CorrectionRefused
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.publication.refresh import refresh
from incident_pipelines.stages.recovery.correct import Prepared, apply_correction, prepare_correction
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, ids, open_shop, order, payment

pytestmark = pytest.mark.stack

AUTHOR, SECOND = Actor("person", "Ada  Lovelace", "a"), Actor("person", "Grace", "g")
HEADER = "-- author: Ada Lovelace\n-- reason: refunds of 10 March were never sent\n"
EVENTS = """\
SELECT o.event_id, 'paid' AS event_type, o.order_id, o.plan_id, 1.25 AS amount, o.occurred_at
FROM raw.orders AS o WHERE o.order_id IN ('o1', 'o2')
"""
DELETES = "-- action: delete\nSELECT payment_id, 'entered twice' AS reason FROM raw.payments WHERE payment_id <= 2;\n"


@pytest.fixture(scope="module")
def shop(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(databases, tmp_path_factory.mktemp("shop"))
    shop.plans("basic")
    shop.append("orders", *(order(f"o{number}", f"10T{number:02}") for number in range(5)))
    shop.append("payments", *(payment(number, "10T10", "12T10") for number in range(1, 5)))
    publish(shop)
    yield shop
    close_shop(shop)


def publish(shop: Shop) -> None:
    list(refresh(shop.warehouse, shop.catalog, owner="t"))


def prepared(shop: Shop, text: str, dataset: str = "orders", name: str = "one.sql", **options: int) -> Prepared:
    folder = Path(shop.variables["INCIDENT_PIPELINES_SQL"]) / "corrections"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return prepare_correction(shop.catalog, shop.variables, name, dataset, NOW, **options)


def test_events_are_shown_then_appended_once_and_published(shop: Shop, databases: Databases) -> None:
    fresh = EVENTS.replace("o.event_id", "gen_random_uuid() AS event_id")
    shown = prepared(shop, HEADER + fresh)
    assert shown.rows == 2
    assert [(str(window), rows) for window, rows in shown.windows.items()] == [
        ("[2026-03-10 01:00, 2026-03-10 02:00)", 1),
        ("[2026-03-10 02:00, 2026-03-10 03:00)", 1),
    ]
    assert {one.dataset for one in shown.touched} == {"order_states", "turnover"}
    assert shop.rows("SELECT count(*) FROM landing.orders") == [(5,)]
    control = postgres_engine(shop.variables["CONTROL_DATABASE_URL"], "tests")
    report = by_hand.Report("data_loss", "refunds are missing", ("orders",))
    incident_id = by_hand.open_incident(control, shop.catalog, report, SECOND, NOW).incident_id
    for author in (AUTHOR, Actor("person", " ada lovelace ", "g")):
        with pytest.raises(CorrectionRefused, match="a second person has to apply it"):
            apply_correction(shop.catalog, shop.variables, shown, author, NOW)

    def applied() -> int:
        return apply_correction(
            shop.catalog, shop.variables, shown, SECOND, NOW, control=control, incident_id=incident_id
        )

    assert (applied(), applied()) == (2, 0)
    publish(shop)
    assert shop.rows("SELECT order_id FROM raw.orders WHERE event_type = 'paid' ORDER BY 1") == [("o1",), ("o2",)]
    ((kind, note),) = shop.rows("SELECT kind, note FROM landing.origins WHERE kind = 'correction'")
    assert (kind, note) == ("correction", f"{incident_id} {shown.correction.digest[:12]}")
    done = query(databases.url("control"), "SELECT kind, state, outcome FROM incidents.actions")
    assert done == [("correct", "done", {"appended": 2})]
    control.dispose()


def test_rows_are_removed_by_their_keys(shop: Shop) -> None:
    shown = prepared(shop, HEADER + DELETES, "payments")
    assert (shown.rows, shown.unknown, sum(shown.windows.values())) == (2, 0, 2)
    later = NOW + timedelta(minutes=1)
    assert apply_correction(shop.catalog, shop.variables, shown, SECOND, later) == 2
    assert apply_correction(shop.catalog, shop.variables, shown, SECOND, later) == 0
    publish(shop)
    assert ids(shop.rows("SELECT payment_id FROM raw.payments")) == {3, 4}


@pytest.mark.parametrize(
    ("text", "dataset", "told"),
    [
        (EVENTS, "orders", "`-- author: …` is expected"),
        (HEADER + "DELETE FROM raw.orders", "orders", "one SELECT is expected"),
        (HEADER + EVENTS + "; SELECT 1 AS a", "orders", "one SELECT is expected"),
        (HEADER + "SELECT * FROM raw.orders", "orders", "columns are to be named"),
        (HEADER + EVENTS.replace("1.25 AS amount, ", ""), "orders", "amount is missing, which the contract requires"),
        (HEADER + EVENTS.replace("1.25 AS amount", "-1 AS amount"), "orders", "row 1 breaks its contract: below"),
        (HEADER + EVENTS.replace("'o1', 'o2'", "'nobody'"), "orders", "an empty selection corrects nothing"),
        (HEADER + EVENTS, "nowhere", "'nowhere' does not enter through the log"),
        (HEADER + DELETES, "orders", "orders is not read from a table"),
        (HEADER + DELETES.replace("'entered twice' AS reason", "amount"), "payments", "a delete returns payment_id"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_says_why(shop: Shop, text: str, dataset: str, told: str) -> None:
    with pytest.raises((CorrectionRefused, InvalidDocument), match=told):
        prepared(shop, text, dataset)


def test_a_correction_reads_only_and_under_its_cap(shop: Shop) -> None:
    with pytest.raises(CorrectionRefused, match="returns more than 1 rows"):
        prepared(shop, HEADER + EVENTS, max_rows=1)
    writes = "WITH d AS (DELETE FROM landing.facts RETURNING 1) " + EVENTS
    with pytest.raises((SourceUnavailable, InvalidDocument)):
        prepared(shop, HEADER + writes)
    sets = EVENTS.replace("1.25", "setval('landing.facts_fact_id_seq', 1)::numeric")
    with pytest.raises(SourceUnavailable, match=r"read-only|permission denied"):
        prepared(shop, HEADER + sets)


def test_only_files_of_its_folder_are_read(shop: Shop, tmp_path: Path) -> None:
    outside = tmp_path / "outside.sql"
    outside.write_text(HEADER + EVENTS, encoding="utf-8")
    linked = Path(shop.variables["INCIDENT_PIPELINES_SQL"]) / "corrections" / "linked.sql"
    linked.parent.mkdir(parents=True, exist_ok=True)
    linked.symlink_to(outside)
    for name in (str(outside), "linked.sql", "../marts/turnover.sql"):
        with pytest.raises(CorrectionRefused, match="does not lie in"):
            prepare_correction(shop.catalog, shop.variables, name, "orders", NOW)
