"""Reconciliations are declared in files; a mistake is told with file and line."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.reconciliation.comparison import ComparedColumn
from incident_pipelines.core.reconciliation.declaration import Bounds, judged, parse_reconciliation
from incident_pipelines.core.reconciliation.plan import plan_of
from incident_pipelines_tests.builders import EVENTS_YAML, write_catalog

CATALOG = "name: shop\nstart: 2026-01-01T00:00:00Z\nsources: {till: TILL_URL, bank: BANK_URL}\n"
TILL_BANK = """\
name: till_bank
owner: finance
source:
  source: till
  table: public.sales
  filters:
  - column: state
    in: [paid, 7]
target:
  source: bank
  sql: bookings.sql
key: [sale_id]
columns:
- customer
- name: amount
  target: booked
  tolerance: 0.01
time: {source: sold_at, target: booked_at}
changed: {source: changed_at}
grace: 10m
money: {source: amount, target: booked, currency: currency}
"""
BOOKINGS = "SELECT sale_id, customer, booked, currency, booked_at FROM bookings"


def load(folder: Path, text: str, bookings: str = BOOKINGS, **files: str) -> Catalog:
    """Load a catalog with one reconciliation, and further files by name with __ for / and a dot."""
    more = {name.replace("__", "/") + ".yaml": content for name, content in files.items()}
    contracts = {"orders.yaml": EVENTS_YAML.format(name="orders", topic="orders")}
    variables = write_catalog(folder, {**contracts, "reconciliations/till_bank.yaml": text, **more}, CATALOG)
    (folder / "sql" / "reconciliation").mkdir(parents=True)
    (folder / "sql" / "reconciliation" / "bookings.sql").write_text(bookings, encoding="utf-8")
    return load_catalog(variables)


def test_what_is_declared_is_what_is_read(tmp_path: Path) -> None:
    declared = load(tmp_path, TILL_BANK).reconciliations["till_bank"]
    assert declared.grace == timedelta(minutes=10)
    assert declared.source.filters[0].in_ == ("paid", 7)
    assert declared.columns[1].tolerance == Decimal("0.01")
    assert declared.thresholds.gap_rate.error == Decimal("0.002")
    assert declared.nightly.at == "02:40"
    plan = plan_of(declared)
    assert plan.comparison.time == ComparedColumn("sold_at", "sold_at", "booked_at")
    assert plan.changed is not None
    assert plan.changed.time == ComparedColumn("changed_at", "changed_at", "")
    assert {one.name for one in plan.changed.read} == {one.name for one in plan.comparison.read}
    assert plan.instants == {"source": ("sold_at", "changed_at"), "target": ("sold_at",)}
    assert plan.amounts == {"source": "amount", "target": "amount"}
    assert plan.currencies == {"source": "currency", "target": "currency"}


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("owner: finance", "owner: finance\ncolour: red"), 3, "colour: not known"),
        (("key: [sale_id]", "key: []"), 12, "key: must not be empty"),
        (("key: [sale_id]\n", ""), 1, "key: is missing"),
        (("source: till", "source: tilll"), 4, "source 'tilll' is not in catalog.yaml; one of till, bank, warehouse"),
        (("- customer", "- custmer"), 14, "bookings.sql has no column 'custmer'"),
        (("- customer", "- sale_id"), 14, "column 'sale_id' is declared twice"),
        (("booked_at}", "boked_at}"), 18, "time: bookings.sql has no column 'boked_at'"),
        (("time: {source: sold_at, target: booked_at}", "time: {source: sold_at}"), 18, "a column of each side"),
        (("grace: 10m", "grace: 10"), 20, "grace: a duration is expected"),
        (("sql: bookings.sql", "sql: bokings.sql"), 11, "sql/reconciliation/bokings.sql is missing"),
        (("sql: bookings.sql", "sql: ../bookings.sql"), 11, "must match"),
        (("  table: public.sales", "  table: public.sales; DROP"), 5, "must match"),
        (("  sql: bookings.sql", "  sql: bookings.sql\n  table: bookings"), 9, "exactly one of table and sql"),
        (("    in: [paid, 7]", "    in: []"), 8, "must not be empty"),
        (("    in: [paid, 7]", "    in: [paid]\n    not_in: [x]"), 7, "exactly one of in and not_in"),
        (("  tolerance: 0.01", "  tolerance: -1"), 17, "greater than or equal to 0"),
        (("currency: currency}", "currency: cur}"), 21, "has no column 'cur'"),
        (("name: till_bank", "name: Till Bank"), 1, "'Till Bank' must match"),
        (
            ("grace: 10m", "grace: 10m\nthresholds:\n  gap_rate:\n    warn: 0.5\n    error: 0.1"),
            23,
            "warns at 0.5, after the error at 0.1",
        ),
        (("  source: bank\n  sql: bookings.sql", "  source: warehouse\n  table: raw.order"), 11, "a contract declares"),
        (
            ("  source: bank\n  sql: bookings.sql", "  source: warehouse\n  table: raw.orders"),
            12,
            "raw.orders has no column 'sale_id'",
        ),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, change: tuple[str, str], line: int, said: str) -> None:
    assert change[0] in TILL_BANK
    with pytest.raises(InvalidDocument) as error:
        load(tmp_path, TILL_BANK.replace(*change, 1))
    assert str(error.value).startswith(f"reconciliations/till_bank.yaml:{line}: "), error.value
    assert said in str(error.value)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match=r"second\.yaml:1: name: 'till_bank' is declared in .*till_bank\.yaml"):
        load(tmp_path, TILL_BANK, reconciliations__till_bank_second=TILL_BANK)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM bookings", "one SELECT is expected"),
        ("SELECT 1 AS sale_id; SELECT 2", "one SELECT is expected"),
        ("SELECT * FROM bookings", "columns are to be named"),
        ("SELECT FROM WHERE (", "bookings.sql:1:"),
    ],
)
def test_reviewed_sql_is_one_select_with_named_columns(tmp_path: Path, sql: str, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        load(tmp_path, TILL_BANK, sql)


def test_join_rates_and_clearing_need_their_columns(tmp_path: Path) -> None:
    text = TILL_BANK + "join_rate: {name: paid, source: bank, sql: bookings.sql}\n"
    with pytest.raises(InvalidDocument, match=r"till_bank\.yaml:22: join_rate\.sql: .* must return joined, total"):
        load(tmp_path / "one", text)
    flow = (
        "name: sales\nowner: finance\nstages:\n- {name: booked, source: bank, sql: bookings.sql, clears_within: 1h}\n"
    )
    with pytest.raises(InvalidDocument, match=r"clearing/sales\.yaml:4: stages\.0\.sql: .* item, since, amount"):
        load(tmp_path / "two", TILL_BANK, clearing__sales=flow)


def test_the_first_mistake_of_several_is_told() -> None:
    with pytest.raises(InvalidDocument, match=r"x\.yaml:2: "):
        parse_reconciliation("x.yaml", "name: a\nowner: 1\nsource: 5\ntarget: 6\nkey: []\n")


def test_bounds_are_passed_and_not_reached() -> None:
    bounds = Bounds(warn=Decimal("0.001"), error=Decimal("0.002"))
    values = ["0", "0.001", "0.0011", "0.002", "0.0021"]
    assert [judged(bounds, Decimal(value), rising=True) for value in values] == ["ok", "ok", "warn", "warn", "error"]
    least = Bounds(error=Decimal("0.998"))
    assert [judged(least, Decimal(v), rising=False) for v in ("0.998", "0.9979")] == ["ok", "error"]


def test_personal_columns_are_found_by_contract_and_by_mark(tmp_path: Path) -> None:
    text = TILL_BANK.replace("- customer", "- {name: customer, pii: true}")
    declared = load(tmp_path, text).reconciliations["till_bank"]
    assert declared.personal_columns(frozenset({"booked"})) == {"customer", "amount"}
