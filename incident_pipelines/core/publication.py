"""What decides about a window besides its SQL: which rules judge it, what its dead letters say, whose lock it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import blake2b

from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.contracts.rules import Measurement, Rule, RuleKind, rules_of
from incident_pipelines.core.windows import TimeWindow

CONFLICTING_COPIES = "conflicting_copies"
"""Reason of quarantine: the same key came with different contents, and none of them is picked."""

WITHIN_REACH = "events_are_within_reach"
"""Rule of a mart with an anchor: no event came later than the mart's rows can follow."""

_RULE_KINDS: Mapping[str, RuleKind] = {
    "missing_field": "required",
    "null_field": "required",
    "not_allowed": "allowed",
    "below_minimum": "minimum",
    "above_maximum": "maximum",
}


@dataclass(frozen=True)
class OffsetSpan:
    """Positions of the log that a window was built from; those between may belong to other windows."""

    origin_id: int
    partition: int
    first_position: int
    last_position: int


@dataclass(frozen=True)
class WindowContent:
    """What stands in a window: how many rows, and one number for all of them.

    Args:
        digest: sum of the rows' hashes, so that neither order nor the number of equal rows is lost.
        columns: that were hashed, as the table declares them (``amount numeric(12,2) NOT NULL``); of an empty window
            any.
    """

    rows: int
    digest: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class DeadLetterCount:
    """Dead letters of a window with one reason at one place of the message."""

    reason: str
    path: str
    count: int


def window_rules(contract: Contract) -> tuple[Rule, ...]:
    """Return the rules that judge each window of a dataset.

    Copies of one key that disagree are withheld from a raw table, so that there a share of them can be borne;
    a mart has nowhere to put them.
    """
    rules = rules_of(contract, contract.max_quarantine_share)
    if not isinstance(contract, MartContract):
        return tuple(
            replace(rule, max_share=contract.max_quarantine_share) if is_key_rule(contract, rule) else rule
            for rule in rules
        )
    rules += tuple(
        Rule(
            name=one.name,
            kind="query",
            columns=(),
            max_share=0.0,
            severity=one.severity,
            description=one.description,
        )
        for one in contract.quality
    )
    if contract.anchor is None:
        return rules
    late = Rule(
        name=WITHIN_REACH,
        kind="maximum",
        columns=(),
        max_share=0.0,
        severity="warn",
        bound=Decimal(contract.reach_days),
        description=f"No event came more than {contract.reach_days} days after the day it belongs to.",
    )
    return (*rules, late)


def is_key_rule(contract: Contract, rule: Rule) -> bool:
    """Whether the rule is about the primary key being unique."""
    return rule.kind == "unique" and rule.columns == contract.primary_key


def measured(
    rules: Iterable[Rule], rows: int, unexpected: Mapping[str, int], dead_letters: Sequence[DeadLetterCount] = ()
) -> tuple[Measurement, ...]:
    """Return one measurement for each rule, what the decoder refused included.

    Args:
        rows: good rows of the window.
        unexpected: by rule, how many of them break it.
        dead_letters: what else arrived in the window.
    """
    looked_at = rows + sum(dead.count for dead in dead_letters)
    refused: dict[tuple[RuleKind, str], int] = {}
    for dead in dead_letters:
        kind = _RULE_KINDS.get(dead.reason)
        if kind:
            place = (kind, dead.path.rpartition(".")[2])
            refused[place] = refused.get(place, 0) + dead.count
    return tuple(
        Measurement(
            rule.name,
            looked_at,
            unexpected.get(rule.name, 0)
            + (refused.get((rule.kind, rule.columns[0]), 0) if len(rule.columns) == 1 else 0),
        )
        for rule in rules
    )


def lock_key(dataset: str, window: TimeWindow) -> int:
    """Return the number of the lock that makes its holder the window's one owner; a signed 64-bit integer."""
    digest = blake2b(f"{dataset} {window.start.isoformat()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
