"""What a declaration of salvage has to say, and what an answer means."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.salvage import Candidate, build_salvages, parse_salvage, state_of, totals

DECLARED = """\
name: paid_not_shipped
candidates: {source: shop, sql: paid.sql}
finished: {source: shop, sql: shipped.sql}
call: {url: SHOP_URL, path: "/orders/{key}/shipment"}
"""
SQL = {
    "paid.sql": "SELECT id AS key, amount, currency, at AS since FROM t WHERE at >= :since AND at < :due",
    "shipped.sql": "SELECT id AS key FROM t WHERE id = ANY (:keys)",
}
SOURCES = {"shop": "SHOP_DATABASE_URL"}


def test_a_declaration_is_checked_against_sources_and_selects() -> None:
    assert list(build_salvages([parse_salvage("one.yaml", DECLARED)], SQL, SOURCES).declared) == ["paid_not_shipped"]


@pytest.mark.parametrize(
    ("change", "sql", "told"),
    [
        (("source: shop, sql: paid", "source: sop, sql: paid"), {}, r"one\.yaml:2: candidates\.source: source 'sop'"),
        (("paid.sql", "pad.sql"), {}, r"one\.yaml:2: .*sql/salvage/pad\.sql is missing"),
        (("/orders/{key}/shipment", "/orders/shipment"), {}, r"one\.yaml:4: call\.path"),
        (("url: SHOP_URL", "url: http://shop"), {}, r"one\.yaml:4: call\.url"),
        (("", ""), {"paid.sql": "SELECT id AS key, :since, :due FROM t"}, "amount is missing"),
        (("", ""), {"shipped.sql": "SELECT id AS key FROM t"}, "must select by :keys"),
    ],
)
def test_what_does_not_fit_names_file_and_line(change: tuple[str, str], sql: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidDocument, match=told):
        build_salvages([parse_salvage("one.yaml", DECLARED.replace(*change))], {**SQL, **sql}, SOURCES)


def test_a_name_is_declared_once() -> None:
    with pytest.raises(InvalidDocument, match="declared already"):
        build_salvages([parse_salvage("one.yaml", DECLARED), parse_salvage("two.yaml", DECLARED)], SQL, SOURCES)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (200, "completed"),
        (204, "completed"),
        (301, "unanswered"),
        (404, "refused"),
        (409, "refused"),
        (401, "unanswered"),
        (408, "unanswered"),
        (429, "unanswered"),
        (500, "unanswered"),
        (503, "unanswered"),
        (None, "unanswered"),
    ],
)
def test_only_a_plain_refusal_is_taken_for_one(status: int | None, state: str) -> None:
    assert state_of(status) == state


def test_money_is_added_up_by_currency() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    cases = [Candidate("1", Decimal("1.10"), "EUR", at), Candidate("2", Decimal("2.20"), "EUR", at)]
    assert totals([*cases, Candidate("3", Decimal(5), "CHF", at)]) == {
        "CHF": (1, Decimal(5)),
        "EUR": (2, Decimal("3.30")),
    }
