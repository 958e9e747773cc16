"""The expectation of one rule over a batch of measurements. Imports the check library: import this late."""

from typing import Any, ClassVar

from great_expectations.compatibility import pydantic
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration
from great_expectations.validator.validator import ValidationDependencies

MEASUREMENTS = "table.rule_measurements"


class RuleMeasurements(TableMetricProvider):
    """(rows, unexpected rows) by rule name, read once for all expectations of a suite."""

    metric_name = MEASUREMENTS

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(  # pyright: ignore[reportSelfClsParameterName] - the library calls it as a class method
        cls,  # noqa: N805
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        **_: Any,
    ) -> dict[str, tuple[int, int]]:
        frame, _domain, _accessor = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type="table")
        return {
            str(rule): (int(rows), int(unexpected))
            for rule, rows, unexpected in zip(frame["rule"], frame["rows"], frame["unexpected"], strict=True)
        }


class ExpectRuleToHold(BatchExpectation):
    """At most `max_share` of the rows looked at break the rule; no rows break none."""

    rule: str
    max_share: float = pydantic.Field(ge=0, le=1)  # pyright: ignore[reportPrivateImportUsage]

    metric_dependencies: ClassVar[tuple[str, ...]] = (MEASUREMENTS,)
    success_keys: ClassVar[tuple[str, ...]] = ("rule", "max_share")

    def get_validation_dependencies(
        self, execution_engine: ExecutionEngine | None = None, runtime_configuration: dict[str, Any] | None = None
    ) -> ValidationDependencies:
        """Name the one metric all rules share; the library's own way of finding it takes three times as long."""
        metric = MetricConfiguration(
            metric_name=MEASUREMENTS, metric_domain_kwargs={"batch_id": self.batch_id}, metric_value_kwargs={}
        )
        return ValidationDependencies(
            metric_configurations={MEASUREMENTS: metric}, result_format={"result_format": "BASIC"}
        )

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine | None = None,
    ) -> dict[str, Any]:
        rows, unexpected = metrics[MEASUREMENTS][self.rule]
        share = unexpected / rows if rows else 0.0
        return {
            "success": share <= self.max_share,
            "result": {"observed_value": share, "element_count": rows, "unexpected_count": unexpected},
        }
