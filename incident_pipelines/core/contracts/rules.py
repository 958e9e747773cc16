"""What a contract forbids, as rules that are measured in SQL and judged by the check library."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Literal

from incident_pipelines.core.contracts.model import Column, Contract

RuleKind = Literal["required", "unique", "allowed", "minimum", "maximum", "reference", "query"]
Severity = Literal["error", "warn"]

_LONGEST_NAME = 63  # PostgreSQL cuts longer names without a word, and two rules could become one


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One truth about the rows of a dataset, named by that truth.

    Args:
        name: unique in the dataset, a plain SQL identifier.
        columns: columns it is about; several only where they are judged together.
        max_share: share (0 to 1) of the rows looked at that may break it.
        severity: `error` refuses the window, `warn` only tells.
        allowed: values an `allowed` rule admits.
        bound: least or greatest value of a `minimum` or `maximum` rule.
        reference: (dataset, column) that holds the values of a `reference` rule.
        description: one sentence for a reader.
    """

    name: str
    kind: RuleKind
    columns: tuple[str, ...]
    max_share: float
    severity: Severity = "error"
    allowed: tuple[str, ...] = ()
    bound: Decimal | None = None
    reference: tuple[str, str] | None = None
    description: str


@dataclass(frozen=True)
class Measurement:
    """What one pass over a window saw of one rule.

    Args:
        rule: name of the rule.
        rows: rows looked at.
        unexpected: of these, rows that break the rule.
    """

    rule: str
    rows: int
    unexpected: int


@dataclass(frozen=True)
class RuleResult:
    """Verdict on one rule in one window.

    Args:
        share: `unexpected` of `rows`, 0 to 1; 0 where there are no rows.
    """

    rule: str
    passed: bool
    rows: int
    unexpected: int
    share: float
    max_share: float
    severity: Severity

    @property
    def refuses(self) -> bool:
        """Whether the window must not be published for it."""
        return not self.passed and self.severity == "error"


def rules_of(contract: Contract, max_share: float) -> tuple[Rule, ...]:
    """Return the rules of a contract in the order of its columns, those of the primary key first.

    Args:
        max_share: share (0 to 1) of a window's rows that may break one rule. A key that is not unique has no share:
            a table cannot hold the same key twice.
    """
    return tuple(_rules(contract, max_share))


def _rules(contract: Contract, max_share: float) -> Iterator[Rule]:
    key = contract.primary_key
    if key:
        yield _unique(key, 0.0)
    for column in contract.columns:
        name, columns = column.name, (column.name,)
        if column.required or name in key:
            yield Rule(
                name=_name(f"{name}_is_present"),
                kind="required",
                columns=columns,
                max_share=max_share,
                description=f"Every row has {name}.",
            )
        if column.unique and columns != key:
            yield _unique(columns, max_share)
        if column.allowed:
            yield Rule(
                name=_name(f"{name}_is_allowed"),
                kind="allowed",
                columns=columns,
                max_share=max_share,
                allowed=column.allowed,
                description=f"{name} is one of {', '.join(column.allowed)}.",
            )
        yield from _bounds(column, max_share)
        if column.reference:
            target = column.reference
            yield Rule(
                name=_name(f"{name}_exists_in_{target.dataset}"),
                kind="reference",
                columns=columns,
                max_share=max_share,
                reference=(target.dataset, target.column),
                description=f"{name} is a {target.column} of {target.dataset}.",
            )


def _unique(columns: tuple[str, ...], max_share: float) -> Rule:
    verb = "is" if len(columns) == 1 else "are"
    return Rule(
        name=_name(f"{'_and_'.join(columns)}_{verb}_unique"),
        kind="unique",
        columns=columns,
        max_share=max_share,
        description=f"No two rows share {' and '.join(columns)}.",
    )


def _bounds(column: Column, max_share: float) -> Iterator[Rule]:
    if column.minimum is not None:
        bound = _plain(column.minimum)
        yield Rule(
            name=_name(f"{column.name}_is_at_least_{_in_name(bound)}"),
            kind="minimum",
            columns=(column.name,),
            max_share=max_share,
            bound=column.minimum,
            description=f"{column.name} is at least {bound}.",
        )
    if column.maximum is not None:
        bound = _plain(column.maximum)
        yield Rule(
            name=_name(f"{column.name}_is_at_most_{_in_name(bound)}"),
            kind="maximum",
            columns=(column.name,),
            max_share=max_share,
            bound=column.maximum,
            description=f"{column.name} is at most {bound}.",
        )


def _plain(bound: Decimal) -> str:
    text = f"{bound:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _in_name(number: str) -> str:
    return number.replace("-", "minus_").replace(".", "_")


def _name(truth: str) -> str:
    if len(truth) <= _LONGEST_NAME:
        return truth
    digest = sha256(truth.encode()).hexdigest()[:8]
    return f"{truth[: _LONGEST_NAME - len(digest) - 1]}_{digest}"
