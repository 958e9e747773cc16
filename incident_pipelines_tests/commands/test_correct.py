"""``correct`` and ``missed-deletes`` as a person types them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.publication.refresh import refresh
from incident_pipelines_tests.commands import in_process
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, ids, open_shop, payment

pytestmark = pytest.mark.stack

FILE = """\
-- author: Ada
-- reason: payments that the shop kept on paper
-- source: shop
SELECT payment_id, order_id, amount, created_at, updated_at FROM public.paper
"""
TABLES = """
CREATE TABLE public.payments (payment_id bigint PRIMARY KEY, order_id text, transaction_id text, amount numeric(12,2),
    settled boolean, due date, created_at timestamptz, updated_at timestamptz);
INSERT INTO payments SELECT n, 'o' || n, 't' || n, 5.25, true, '2026-04-01', '2026-03-10T10:00Z', '2026-03-12T10:00Z'
    FROM generate_series(1, 56) n;
CREATE TABLE public.paper AS SELECT 100 + n AS payment_id, 'p' || n AS order_id, 1.5 AS amount,
    timestamptz '2026-03-11T10:00Z' AS created_at, timestamptz '2026-03-12T10:00Z' AS updated_at
    FROM generate_series(1, 3) n;
GRANT SELECT ON public.payments, public.paper TO source_reader;
"""


@pytest.fixture(scope="module")
def shop(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(databases, tmp_path_factory.mktemp("shop"))
    with shop.source.begin() as connection:
        connection.exec_driver_sql(TABLES)
    folder = Path(shop.variables["INCIDENT_PIPELINES_SQL"]) / "corrections"
    folder.mkdir()
    (folder / "paper.sql").write_text(FILE, encoding="utf-8")
    shop.append("payments", *(payment(number, "10T10", "12T10") for number in range(1, 61)))
    yield shop
    close_shop(shop)


def run(shop: Shop, *arguments: str) -> tuple[int, str, str]:
    return in_process.run(shop.variables, *arguments)


def published(shop: Shop) -> set[int]:
    list(refresh(shop.warehouse, shop.catalog, owner="t"))
    return ids(shop.rows("SELECT payment_id FROM raw.payments"))


def test_a_correction_is_previewed_and_applied_by_a_second_person(shop: Shop) -> None:
    command = ("correct", "paper.sql", "--dataset", "payments")
    code, output, _ = run(shop, *command, "--preview")
    assert code == 0
    assert "[2026-03-11 10:00, 2026-03-11 11:00): 3" in output
    assert '{"payment_id": 101, "order_id": "p1"' in output
    assert "mart order_states: " in output
    code, _, errors = run(shop, *command, "--as", "ada")
    assert (code, "a second person has to apply it" in errors) == (2, True)
    assert run(shop, *command)[0] == 2
    assert "3 rows appended" in run(shop, *command, "--as", "Grace")[1]
    assert "nothing was appended" in run(shop, *command, "--as", "Grace")[1]
    assert {101, 102, 103} <= published(shop)


def test_missed_deletes_are_shown_removed_and_taken_back(shop: Shop) -> None:
    control = postgres_engine(shop.variables["CONTROL_DATABASE_URL"], "tests")
    report = by_hand.Report("corruption", "rows are gone", ("payments",))
    person = Actor("person", "Ada", "ada")
    incident_id = by_hand.open_incident(control, shop.catalog, report, person, NOW).incident_id
    control.dispose()
    command = ("missed-deletes", "payments", "--from", "2026-03-10T10", "--to", "2026-03-10T11")
    code, output, _ = run(shop, *command)
    assert (code, "4 of 60 rows are gone at the source; may not go without a person" in output) == (0, True)
    assert run(shop, *command, "--at-most", "4")[0] == 2
    agreed = ("--incident", incident_id, "--as", "Grace")
    code, _, errors = run(shop, *command, "--at-most", "3", *agreed)
    assert (code, "more than 3 rows would go" in errors) == (1, True)
    assert "4 rows removed" in run(shop, *command, "--at-most", "4", *agreed)[1]
    assert "has every row that raw has" in run(shop, *command)[1]
    assert published(shop).isdisjoint(range(57, 61))
    assert "4 rows are back" in run(shop, "missed-deletes", "payments", "--restore", *agreed)[1]
    assert published(shop) >= set(range(1, 61))
