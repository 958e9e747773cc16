"""What a run says of the gap it found: in one sentence, and as a signal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from incident_pipelines.core.reconciliation.comparison import Counts
from incident_pipelines.core.reconciliation.declaration import Reconciliation, Verdict
from incident_pipelines.core.signals import Severity
from incident_pipelines.core.windows import TimeWindow

GAP_SIGNAL = "reconciliation_gap"
GRADED_BY = "SPEC §6, reconciliation gap: more than 0.2 % pages"
_SEVERITIES: Mapping[str, Severity] = {"warn": "warning", "error": "page"}


def empty_side(declared: Reconciliation, counts: Counts) -> str | None:
    """Return a sentence if one side holds nothing while the other one does; that is no ordinary difference.

    Args:
        counts: rows of both sides, and differences that nothing explains; where all rows are in flight the other side
            has not had the time to hold any.
    """
    if not counts.differences:
        return None
    sides = (declared.source.source, counts.source), (declared.target.source, counts.target)
    for (name, rows), (other, held) in (sides, sides[::-1]):
        if rows == 0 and held > 0:
            return (
                f"{name} holds no row where {other} holds {held:,}: the whole side is gone, or what is read of it is "
                "not what was meant."
            )
    return None


def statement_of(
    unexplained: Mapping[str, int],
    rate: Decimal,
    counts: Counts,
    in_flight: int,
    money: Mapping[str, Decimal],
    empty: str | None,
) -> str:
    """Return what was found, for a person.

    Args:
        unexplained: of the rows looked at, by kind.
        in_flight: open ones that are explained so.
        money: at stake in all unexplained ones that are open, by currency.
        empty: sentence of `empty_side`.
    """
    differing, rows = sum(unexplained.values()), max(counts.source, counts.target)
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(unexplained.items()) if number)
    found = (
        f"{differing:,} differences in {rows:,} rows ({float(rate):.3%}) that nothing explains: {kinds}"
        if differing
        else f"{rows:,} rows {'without a difference that nothing explains' if in_flight else 'agree'}"
    )
    worth = ", ".join(f"{amount:,} {currency}".strip() for currency, amount in sorted(money.items()) if amount)
    parts = [
        *([empty] if empty else []),
        found + ".",
        *([f"At stake: {worth}."] if worth else []),
        *([f"{in_flight:,} may be on their way (in flight)."] if in_flight else []),
    ]
    return " ".join(parts)


def gap_signal(
    declared: Reconciliation,
    verdict: Verdict,
    window: TimeWindow,
    as_of: datetime,
    statement: str,
    figures: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the signal of a gap as the store writes it.

    Args:
        verdict: warn or error.
        window: that was looked at.
        figures: counts, rate and money, in types that JSON has.
        samples: a few of the differences, personal data masked.
    """
    command = f"incident-pipelines reconcile differences {declared.name} --open"
    summary = (
        f"{declared.name} ({declared.source.source} to {declared.target.source}) does not agree in {window} UTC. "
        f"{statement} Nothing was changed. Next: `{command}` names every difference with both values; what is missing "
        f"on one side comes back from the source that its contract names."
    )
    return {
        "kind": GAP_SIGNAL,
        "severity": _SEVERITIES[verdict],
        "dataset": declared.name,
        "source_key": f"{GAP_SIGNAL} {declared.name} {window.start.isoformat()} {verdict}",
        "window_start": window.start,
        "window_end": window.end,
        "occurred_at": as_of,
        "detail": {
            **figures,
            "source": declared.source.source,
            "target": declared.target.source,
            "owner": declared.owner,
            "samples": list(samples),
            "summary": summary,
            "graded_by": GRADED_BY,
        },
    }
