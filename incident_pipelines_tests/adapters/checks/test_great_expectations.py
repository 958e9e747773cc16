import json
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from incident_pipelines.adapters.checks import great_expectations as checks
from incident_pipelines.adapters.checks.great_expectations import ContractSuite, contract_suite
from incident_pipelines.core.contracts.rules import Measurement, Rule, RuleResult
from incident_pipelines.core.errors import CheckError


def rule(name: str, max_share: float = 0.01, severity: Any = "error") -> Rule:
    return Rule(
        name=name, kind="minimum", columns=("amount",), max_share=max_share, severity=severity, description=f"{name}."
    )


POSITIVE = rule("amount_is_at_least_0")
ALLOWED = rule("currency_is_allowed", max_share=0.0)
KNOWN = rule("plan_id_exists_in_app_plans", severity="warn")
RULES = (POSITIVE, ALLOWED, KNOWN)
GOOD = tuple(Measurement(each.name, 100, 0) for each in RULES)


def judged(suite: ContractSuite, *changed: Measurement) -> dict[str, RuleResult]:
    replaced = {measurement.rule: measurement for measurement in (*GOOD, *changed)}
    return {result.rule: result for result in suite.validate(tuple(replaced.values()))}


@pytest.fixture
def suite() -> ContractSuite:
    return ContractSuite("payments", RULES)


def test_a_good_window_passes_in_the_order_of_the_rules(suite: ContractSuite) -> None:
    results = suite.validate(GOOD[::-1])
    assert [result.rule for result in results] == [each.name for each in RULES]
    assert all(result.passed for result in results)


@pytest.mark.parametrize("broken", RULES, ids=lambda each: each.name)
def test_each_rule_fails_alone(suite: ContractSuite, broken: Rule) -> None:
    results = judged(suite, Measurement(broken.name, 100, 2))
    assert {name for name, result in results.items() if not result.passed} == {broken.name}


def test_a_result_says_what_was_measured(suite: ContractSuite) -> None:
    assert judged(suite, Measurement(POSITIVE.name, 400, 6))[POSITIVE.name] == RuleResult(
        rule=POSITIVE.name, passed=False, rows=400, unexpected=6, share=0.015, max_share=0.01, severity="error"
    )


@pytest.mark.parametrize(
    ("max_share", "rows", "unexpected", "passed"),
    [
        (0.0, 1_000_000_000, 1, False),
        (0.0, 1_000_000_000, 0, True),
        (0.01, 100, 1, True),
        (0.01, 99, 1, False),
        (0.03, 100, 3, True),
        (1.0, 5, 5, True),
        (0.0, 0, 0, True),
        (0.01, 3_000_000_000, 30_000_001, False),
    ],
)
def test_the_share_decides(max_share: float, rows: int, unexpected: int, passed: bool) -> None:
    (result,) = ContractSuite("payments", [rule("a_is_present", max_share)]).validate(
        [Measurement("a_is_present", rows, unexpected)]
    )
    assert (result.passed, result.rows, result.unexpected) == (passed, rows, unexpected)


def test_severity_goes_through_the_suite(suite: ContractSuite) -> None:
    results = judged(suite, Measurement(KNOWN.name, 100, 100), Measurement(ALLOWED.name, 100, 100))
    assert (results[KNOWN.name].severity, results[KNOWN.name].refuses) == ("warn", False)
    assert (results[ALLOWED.name].severity, results[ALLOWED.name].refuses) == ("error", True)
    assert [each["severity"] for each in json.loads(suite.suite_json())["expectations"]] == [
        "critical",
        "critical",
        "warning",
    ]


def test_the_verdict_is_the_suites(suite: ContractSuite) -> None:
    bad = Measurement(POSITIVE.name, 100, 100)
    assert not judged(suite, bad)[POSITIVE.name].passed
    (expectation,) = [each for each in suite.suite.expectations if each.rule == POSITIVE.name]
    suite.suite.delete_expectation(expectation)
    results = judged(suite, bad)
    assert list(results) == [ALLOWED.name, KNOWN.name]
    assert all(result.passed for result in results.values())


def test_a_suite_without_expectations_judges_nothing() -> None:
    assert ContractSuite("payments", ()).validate(GOOD) == ()


def test_windows_do_not_see_each_other(suite: ContractSuite) -> None:
    for unexpected in (0, 50, 0, 100):
        assert judged(suite, Measurement(POSITIVE.name, 100, unexpected))[POSITIVE.name].unexpected == unexpected


def test_threads_do_not_see_each_other(suite: ContractSuite) -> None:
    other = ContractSuite("page_views", RULES)

    def share(number: int) -> tuple[int, int]:
        chosen = suite if number % 2 else other
        return number, judged(chosen, Measurement(POSITIVE.name, 100, number))[POSITIVE.name].unexpected

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(number == unexpected for number, unexpected in pool.map(share, range(100)))
    finally:
        sys.setswitchinterval(interval)


def test_what_was_not_measured_is_an_error(suite: ContractSuite) -> None:
    with pytest.raises(CheckError, match="payments: not measured: currency_is_allowed"):
        suite.validate([measurement for measurement in GOOD if measurement.rule != ALLOWED.name])


@pytest.mark.parametrize("count", [math.nan, None, -1, 1.0, Decimal(1), Decimal("NaN"), True, "1"], ids=repr)
@pytest.mark.parametrize("field", ["rows", "unexpected"])
def test_what_is_no_count_is_an_error(suite: ContractSuite, field: str, count: Any) -> None:
    fields: dict[str, Any] = {"rows": 100, "unexpected": 0, field: count}
    with pytest.raises(CheckError, match=f"'{POSITIVE.name}' has .* as its number of"):
        judged(suite, Measurement(POSITIVE.name, **fields))


def test_more_unexpected_rows_than_rows_is_an_error(suite: ContractSuite) -> None:
    with pytest.raises(CheckError, match="2 unexpected rows among 1"):
        judged(suite, Measurement(POSITIVE.name, 1, 2))


def test_two_measurements_of_a_rule_are_an_error(suite: ContractSuite) -> None:
    with pytest.raises(CheckError, match="measured twice"):
        suite.validate((*GOOD, GOOD[0]))


def test_two_rules_of_a_name_are_an_error() -> None:
    with pytest.raises(CheckError, match="two rules are named 'amount_is_at_least_0'"):
        ContractSuite("payments", (POSITIVE, POSITIVE))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_an_error(share: float) -> None:
    with pytest.raises(CheckError, match="payments: no suite can be made"):
        ContractSuite("payments", [rule("a_is_present", share)])


def test_an_expectation_that_raises_is_an_error(suite: ContractSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the expectation is broken")

    monkeypatch.setattr(type(suite.suite.expectations[0]), "_validate", broken)
    with pytest.raises(CheckError, match="could not be checked: the expectation is broken"):
        suite.validate(GOOD)


def test_a_metric_that_raises_is_an_error(suite: ContractSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("the measurements cannot be read")

    monkeypatch.setattr(PandasExecutionEngine, "get_compute_domain", broken)
    with pytest.raises(CheckError, match=r"could not be checked: .*the measurements cannot be read"):
        suite.validate(GOOD)


def test_a_library_that_raises_is_an_error(suite: ContractSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no batch")

    monkeypatch.setattr(checks, "_measurements_batch", broken)
    with pytest.raises(CheckError, match="the check library failed: RuntimeError: no batch"):
        suite.validate(GOOD)


@pytest.mark.parametrize("changed", [lambda results: results[1:], lambda results: [*results, results[0]]])
def test_an_answer_too_few_or_too_many_is_an_error(
    suite: ContractSuite, monkeypatch: pytest.MonkeyPatch, changed: Callable[[list[Any]], list[Any]]
) -> None:
    from great_expectations.validator.validator import Validator

    answer = Validator.graph_validate

    def mistaken(*arguments: Any, **named: Any) -> Any:
        return changed(answer(*arguments, **named))

    monkeypatch.setattr(Validator, "graph_validate", mistaken)
    with pytest.raises(CheckError, match="the check library answered for"):
        suite.validate(GOOD)


def test_a_rule_that_the_library_drops_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from great_expectations import ExpectationSuite
    from great_expectations.exceptions.exceptions import InvalidExpectationConfigurationError

    def refuse(*_: Any) -> Any:
        raise InvalidExpectationConfigurationError("not this one")

    monkeypatch.setattr(ExpectationSuite, "_process_expectation", refuse)
    with pytest.raises(CheckError, match="did not accept every rule"):
        ContractSuite("payments", RULES)


def test_the_json_makes_the_same_suite(suite: ContractSuite) -> None:
    from great_expectations import ExpectationSuite

    exported = json.loads(suite.suite_json())
    assert exported["name"] == "payments"
    assert exported["expectations"][0]["description"] == "amount_is_at_least_0."
    assert exported["expectations"][0]["meta"] == {
        "check": "amount_is_at_least_0",
        "kind": "minimum",
        "columns": ["amount"],
    }
    suite.suite = ExpectationSuite(**exported)
    results = judged(suite, Measurement(POSITIVE.name, 100, 2))
    assert [name for name, result in results.items() if not result.passed] == [POSITIVE.name]


def test_a_suite_is_made_once() -> None:
    assert contract_suite("payments", RULES) is contract_suite("payments", RULES)
    assert contract_suite("payments", RULES) is not contract_suite("payments", RULES[:2])


def test_nothing_is_printed(suite: ContractSuite, capfd: pytest.CaptureFixture[str]) -> None:
    judged(suite, Measurement(POSITIVE.name, 100, 100))
    assert capfd.readouterr() == ("", "")
