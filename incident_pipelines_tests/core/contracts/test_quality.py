"""`quality` of type sql in a contract: kept for marts, refused where it would not be run."""

import pytest

from incident_pipelines.core.contracts.model import MartContract, QualityQuery
from incident_pipelines.core.contracts.odcs import parse_contract
from incident_pipelines.core.errors import InvalidDocument
from incident_pipelines.core.publication import window_rules

MART = """\
apiVersion: v3.1.0
kind: DataContract
id: daily
name: daily
version: 1.0.0
status: active
team: {name: finance}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [day]}
- {property: day, value: day}
schema:
- name: daily
  logicalType: object
  quality:
  - {type: text, description: Looks right.}
  - {type: sql, QUERY}
  properties:
  - {name: day, logicalType: date, required: true}
"""
GOOD = "name: money_is_there, query: money.sql, mustBe: 0"


def parse(query: str) -> MartContract:
    contract = parse_contract("marts/daily.yaml", MART.replace("QUERY", query))
    assert isinstance(contract, MartContract)
    return contract


def test_a_query_is_a_rule_without_a_share() -> None:
    contract = parse(f"{GOOD}, description: All of it., severity: warning")
    assert contract.quality == (QualityQuery("money_is_there", "money.sql", "All of it.", "warn"),)
    (rule,) = (one for one in window_rules(contract) if one.kind == "query")
    assert (rule.name, rule.max_share, rule.severity, rule.description) == ("money_is_there", 0.0, "warn", "All of it.")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("name: Money, query: money.sql, mustBe: 0", "Money"),
        ("name: money, query: ../money.sql, mustBe: 0", "sql/quality"),
        ("name: money, query: SELECT 1, mustBe: 0", "sql/quality"),
        ("name: money, query: money.sql, mustBe: 1", "mustBe: 0"),
        (f"{GOOD}, severity: grave", "grave"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_line(query: str, told: str) -> None:
    with pytest.raises(InvalidDocument, match=rf"daily\.yaml:18: .*{told}"):
        parse(query)


def test_elsewhere_it_would_not_be_run() -> None:
    rows = MART.replace("value: mart", "value: rows").replace("inputs, value: [orders]", "source, value: shop")
    rows = rows.replace("day, value: day", "table, value: daily")
    with pytest.raises(InvalidDocument, match="quality of type sql is for marts"):
        parse_contract("contracts/daily.yaml", rows.replace("QUERY", GOOD))
