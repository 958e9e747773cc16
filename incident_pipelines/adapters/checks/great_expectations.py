"""The verdict on a window: rules of a contract as a Great Expectations suite over what was measured."""

import json
import threading
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from incident_pipelines.adapters.checks.library import load
from incident_pipelines.core.contracts.rules import Measurement, Rule, RuleResult, Severity
from incident_pipelines.core.errors import CheckError

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

_LIBRARY_SEVERITY: dict[Severity, str] = {"error": "critical", "warn": "warning"}
_SEVERITY: dict[str, Severity] = {"critical": "error", "warning": "warn"}

# All suites share one execution engine, which holds one batch at a time.
_engine = threading.RLock()


class ContractSuite:
    """One expectation for each rule of a dataset.

    The first one made in a process loads the library (seconds).

    Args:
        dataset: name of the dataset, for messages.
        rules: rules with unique names.

    Attributes:
        suite: the library's suite; what it expects at the time of `validate` is what counts.

    Raises:
        CheckError: a suite cannot be made of these rules.
    """

    def __init__(self, dataset: str, rules: Sequence[Rule]) -> None:
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise CheckError(
                    f"{dataset}: two rules are named {name!r}; a rule's name must be unique in its dataset"
                )
        self.dataset = dataset
        with _engine:
            self.suite = _suite(dataset, rules)

    def validate(self, measurements: Sequence[Measurement]) -> tuple[RuleResult, ...]:
        """Judge a window by what was measured in it.

        Args:
            measurements: one for each rule of the suite; those of other rules are not looked at.

        Returns:
            One result for each expectation, in the order of the suite.

        Raises:
            CheckError: a measurement is missing or is no count, or the library failed; nothing is known of the data.
        """
        with _engine:
            wanted = [_rule_name(expectation) for expectation in self.suite.expectations]
            measured = self._checked(wanted, measurements)
            if not wanted:
                return ()
            results = self._run([measured[name] for name in wanted])
        judged: dict[str, RuleResult] = {}
        for found in results:
            result = self._result(found)
            judged[result.rule] = result
        if sorted(judged) != sorted(wanted) or len(results) != len(wanted):
            raise CheckError(
                f"{self.dataset}: the check library answered for {sorted(judged)}, not for {sorted(wanted)}; "
                "nothing is known of the data"
            )
        return tuple(judged[name] for name in wanted)

    def suite_json(self) -> str:
        """Return the suite in the library's own JSON, for a reader."""
        return json.dumps(self.suite.to_json_dict(), indent=2)

    def _checked(self, wanted: Sequence[str], measurements: Sequence[Measurement]) -> dict[str, Measurement]:
        measured: dict[str, Measurement] = {}
        for measurement in measurements:
            if measurement.rule not in wanted:
                continue
            if measurement.rule in measured:
                raise CheckError(f"{self.dataset}: rule {measurement.rule!r} was measured twice; one of them is wrong")
            for what, count in (("rows", measurement.rows), ("unexpected rows", measurement.unexpected)):
                if type(count) is not int or count < 0:
                    raise CheckError(
                        f"{self.dataset}: rule {measurement.rule!r} has {count!r} as its number of {what}; "
                        "a whole number from 0 is expected"
                    )
            if measurement.unexpected > measurement.rows:
                raise CheckError(
                    f"{self.dataset}: rule {measurement.rule!r} found {measurement.unexpected} unexpected rows "
                    f"among {measurement.rows}; it was measured wrongly"
                )
            measured[measurement.rule] = measurement
        missing = [name for name in wanted if name not in measured]
        if missing:
            raise CheckError(f"{self.dataset}: not measured: {', '.join(missing)}; the window cannot be judged")
        return measured

    def _run(self, measurements: Sequence[Measurement]) -> "list[ExpectationValidationResult]":
        try:
            from pandas import DataFrame

            frame = DataFrame(
                {
                    "rule": [measurement.rule for measurement in measurements],
                    "rows": [measurement.rows for measurement in measurements],
                    "unexpected": [measurement.unexpected for measurement in measurements],
                }
            )
            batch = _measurements_batch().get_batch(batch_parameters={"dataframe": frame})
            return batch.validate(self.suite, result_format="BASIC").results
        except Exception as error:
            raise CheckError(f"{self.dataset}: the check library failed: {type(error).__name__}: {error}") from error

    def _result(self, found: "ExpectationValidationResult") -> RuleResult:
        config = found.expectation_config
        if config is None:
            raise CheckError(f"{self.dataset}: the check library gave a result of no expectation")
        rule = str(config.kwargs["rule"])
        # A metric that failed is reported as a mapping of metrics without `raised_exception` at its top.
        if (found.exception_info or {}).get("raised_exception") is not False:
            raise CheckError(f"{self.dataset}: rule {rule!r} could not be checked: {_reason(found.exception_info)}")
        details = found.result or {}
        if not isinstance(found.success, bool) or "observed_value" not in details:
            raise CheckError(f"{self.dataset}: rule {rule!r} has no verdict: {found.success!r}, {details!r}")
        return RuleResult(
            rule=rule,
            passed=found.success,
            rows=details["element_count"],
            unexpected=details["unexpected_count"],
            share=details["observed_value"],
            max_share=config.kwargs["max_share"],
            severity=_SEVERITY[config.severity.value],
        )


@cache
def contract_suite(dataset: str, rules: tuple[Rule, ...]) -> ContractSuite:
    """Return the suite of a dataset, made once in a process; raises as `ContractSuite` does."""
    return ContractSuite(dataset, rules)


def _suite(dataset: str, rules: Sequence[Rule]) -> "ExpectationSuite":
    try:
        library = load()
        from incident_pipelines.adapters.checks.expectation import ExpectRuleToHold

        suite: ExpectationSuite = library.ExpectationSuite(
            name=dataset,
            expectations=[
                ExpectRuleToHold(
                    rule=rule.name,
                    max_share=rule.max_share,
                    severity=_LIBRARY_SEVERITY[rule.severity],  # pyright: ignore[reportArgumentType] - it parses names
                    description=rule.description,
                    meta={"check": rule.name, "kind": rule.kind, "columns": list(rule.columns)},
                )
                for rule in rules
            ],
        )
    except Exception as error:
        raise CheckError(f"{dataset}: no suite can be made of its rules: {type(error).__name__}: {error}") from error
    # The library logs an expectation that it does not accept, and goes on without it.
    if [_rule_name(expectation) for expectation in suite.expectations] != [rule.name for rule in rules]:
        raise CheckError(f"{dataset}: the check library did not accept every rule; nothing can be checked")
    return suite


@cache
def _measurements_batch() -> "BatchDefinition":
    library = load()
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    context = library.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )
    asset = context.data_sources.add_pandas("measurements").add_dataframe_asset("measurements")
    return asset.add_batch_definition_whole_dataframe("window")


def _rule_name(expectation: Any) -> str:
    return str(expectation.rule)


def _reason(exception_info: Any) -> str:
    if isinstance(exception_info, dict):
        if "exception_message" in exception_info:
            return str(exception_info["exception_message"])
        return "; ".join(sorted({_reason(entry) for entry in exception_info.values()}))
    return str(exception_info)
