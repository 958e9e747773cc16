from decimal import Decimal

import pytest

from incident_pipelines.core.contracts.model import Column, EventContract, MartContract, Reference
from incident_pipelines.core.contracts.rules import Rule, RuleResult, rules_of

COMMON = {
    "version": "1.0.0",
    "description": "",
    "owner": "payments team",
    "consumers": (),
    "correlation_id": None,
    "max_quarantine_share": 0.01,
    "freshness_minutes": None,
}


def events(*columns: Column) -> EventContract:
    return EventContract(
        name="payments",
        columns=(Column("event_id", "uuid", required=True, unique=True), *columns),
        primary_key=("event_id",),
        time_column="created_at",
        topic="payments",
        event_id="event_id",
        event_type="event_type",
        event_time="created_at",
        schema_version=None,
        recovery_sources=(),
        retention_days=None,
        **COMMON,
    )


def mart(*columns: Column, key: tuple[str, ...]) -> MartContract:
    return MartContract(
        name="daily",
        columns=columns,
        primary_key=key,
        time_column="day",
        inputs=(),
        reach_days=0,
        anchor=None,
        **COMMON,
    )


def only(column: Column) -> Rule:
    """The one rule beside those of the key."""
    (rule,) = rules_of(events(column), 0.05)[2:]
    return rule


def test_a_column_that_promises_nothing_has_no_rule() -> None:
    assert [rule.name for rule in rules_of(events(Column("note", "text")), 0.05)] == [
        "event_id_is_unique",
        "event_id_is_present",
    ]


def test_required() -> None:
    rule = only(Column("created_at", "timestamp", required=True))
    assert (rule.name, rule.kind, rule.columns) == ("created_at_is_present", "required", ("created_at",))
    assert (rule.max_share, rule.severity) == (0.05, "error")


def test_unique() -> None:
    rule = only(Column("number", "integer", unique=True))
    assert (rule.name, rule.kind, rule.columns, rule.max_share) == ("number_is_unique", "unique", ("number",), 0.05)


def test_allowed() -> None:
    rule = only(Column("currency", "text", allowed=("EUR", "USD")))
    assert (rule.name, rule.kind, rule.allowed) == ("currency_is_allowed", "allowed", ("EUR", "USD"))
    assert rule.description == "currency is one of EUR, USD."


def test_reference() -> None:
    rule = only(Column("plan_id", "text", reference=Reference("app_plans", "id")))
    assert (rule.name, rule.kind, rule.reference) == ("plan_id_exists_in_app_plans", "reference", ("app_plans", "id"))


@pytest.mark.parametrize(
    ("bound", "in_name", "in_text"),
    [
        ("0", "0", "0"),
        ("0.00", "0", "0"),
        ("-0.0", "0", "0"),
        ("100", "100", "100"),
        ("1E+3", "1000", "1000"),
        ("0.50", "0_5", "0.5"),
        ("-1.25", "minus_1_25", "-1.25"),
    ],
)
def test_bounds_are_named_by_their_value(bound: str, in_name: str, in_text: str) -> None:
    minimum, maximum = rules_of(
        events(Column("amount", "numeric", minimum=Decimal(bound), maximum=Decimal(bound))), 0.05
    )[2:]
    assert (minimum.name, minimum.kind, minimum.bound) == (f"amount_is_at_least_{in_name}", "minimum", Decimal(bound))
    assert (maximum.name, maximum.kind, maximum.bound) == (f"amount_is_at_most_{in_name}", "maximum", Decimal(bound))
    assert minimum.description == f"amount is at least {in_text}."
    assert maximum.description == f"amount is at most {in_text}."


def test_a_key_is_unique_as_a_whole_and_without_exception() -> None:
    columns = (Column("day", "date"), Column("region", "text"), Column("rows", "integer"))
    rules = rules_of(mart(*columns, key=("day", "region")), 0.05)
    assert [(rule.name, rule.columns, rule.max_share) for rule in rules] == [
        ("day_and_region_are_unique", ("day", "region"), 0.0),
        ("day_is_present", ("day",), 0.05),
        ("region_is_present", ("region",), 0.05),
    ]


def test_a_key_of_one_column_is_one_rule() -> None:
    names = [rule.name for rule in rules_of(events(), 0.05)]
    assert names.count("event_id_is_unique") == 1


def test_names_fit_an_identifier_and_stay_apart() -> None:
    first, second = (Column("c" * 60 + end, "text", required=True) for end in ("one", "two"))
    names = [rule.name for rule in rules_of(events(first, second), 0.05)]
    assert max(map(len, names)) == 63
    assert len(set(names)) == len(names)
    assert names == [rule.name for rule in rules_of(events(first, second), 0.05)]


@pytest.mark.parametrize(
    ("passed", "severity", "refuses"), [(False, "error", True), (False, "warn", False), (True, "error", False)]
)
def test_only_a_broken_rule_of_severity_error_refuses(passed: bool, severity: str, refuses: bool) -> None:
    result = RuleResult("a_is_present", passed, 10, 1, 0.1, 0.0, severity)  # pyright: ignore[reportArgumentType]
    assert result.refuses is refuses
