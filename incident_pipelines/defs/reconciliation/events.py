"""Results of reconciliations → what Dagster stores; every number becomes a plot."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import dagster as dg

from incident_pipelines.core.reconciliation.declaration import JoinRate, Reconciliation
from incident_pipelines.defs.reconciliation.picture import ageing_picture
from incident_pipelines.stages.reconciliation.clearing import StageBalance
from incident_pipelines.stages.reconciliation.difference_figures import DifferenceFigures, ShownDifference
from incident_pipelines.stages.reconciliation.reconcile import Reconciled

GAP_CHECK = "gap_is_within_threshold"
_SEVERITIES = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


def reconciled_metadata(run: Reconciled, figures: DifferenceFigures) -> dict[str, Any]:
    """Return what is shown of a run."""
    metadata: dict[str, Any] = {
        "statement": run.statement,
        "source_rows": run.counts.source,
        "target_rows": run.counts.target,
        "missing": run.counts.missing,
        "unexpected": run.counts.unexpected,
        "mismatched": run.counts.mismatched,
        "gap_rate": float(run.gap_rate),
        **run.ledger,
        **{_named("money_at_stake", currency): float(money) for currency, money in sorted(run.money.items())},
        "seconds": round(run.seconds, 3),
        "window_start": dg.MetadataValue.timestamp(run.window.start),
        "window_end": dg.MetadataValue.timestamp(run.window.end),
        "ageing": dg.MetadataValue.md(ageing_picture(figures.ages, figures.age_names)),
        "differences_sql": dg.MetadataValue.md(f"In the control database:\n```sql\n{_sql(run.declared.name)}\n```"),
    }
    if run.join_rate is not None and run.join_rate.rate is not None:
        metadata["join_rate"] = float(run.join_rate.rate)
        metadata["joinable"] = run.join_rate.total
    if figures.samples:
        metadata["differences"] = dg.MetadataValue.table([_record(one) for one in figures.samples])
    return metadata


def gap_check(asset: dg.AssetKey, declared: Reconciliation, run: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return whether the last run was within the thresholds.

    Args:
        run: as the control database keeps it.
    """
    bounds = declared.thresholds.gap_rate
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=GAP_CHECK,
        passed=run["verdict"] == "ok",
        severity=_SEVERITIES.get(run["verdict"], dg.AssetCheckSeverity.ERROR),
        description=run["statement"],
        metadata={
            "gap_rate": float(run["gap_rate"]),
            **{f"{level}_beyond": float(bound) for level, bound in _bounds(bounds.warn, bounds.error)},
            "missing": run["missing"],
            "unexpected": run["unexpected"],
            "mismatched": run["mismatched"],
            "source_rows": run["source_rows"],
            "target_rows": run["target_rows"],
            "as_of": dg.MetadataValue.timestamp(run["as_of"]),
            "differences_sql": dg.MetadataValue.md(f"```sql\n{_sql(declared.name)}\n```"),
        },
    )


def join_check(asset: dg.AssetKey, rule: JoinRate, run: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return whether the join rate of the last run was high enough; nothing to join is no failure.

    Args:
        run: as the control database keeps it.
    """
    joined, total = run["joined"] or 0, run["joinable"] or 0
    rate = Decimal(joined) / Decimal(total) if total else None
    said = rule.verdict(joined, total)
    found = "nothing to join" if rate is None else f"{joined:,} of {total:,} rows ({float(rate):.3%}) were joined"
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=rule.name,
        passed=said == "ok",
        severity=_SEVERITIES.get(said, dg.AssetCheckSeverity.ERROR),
        description=f"{rule.description} {found[0].upper()}{found[1:]}.".strip(),
        metadata={
            **({"join_rate": float(rate)} if rate is not None else {}),
            **{f"{level}_under": float(b) for level, b in _bounds(rule.minimum.warn, rule.minimum.error)},
            "joined": joined,
            "joinable": total,
            "as_of": dg.MetadataValue.timestamp(run["as_of"]),
        },
    )


def clearing_metadata(balances: list[StageBalance], as_of: datetime) -> dict[str, Any]:
    """Return what is shown of what has not cleared."""
    metadata: dict[str, Any] = {
        "balances": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "flow": one.flow,
                        "stage": one.stage.name,
                        "not cleared": one.items,
                        "money": float(one.money),
                        "currency": one.currency,
                        "oldest (minutes)": round(one.age_seconds(as_of) / 60, 1),
                        "clears within (minutes)": one.stage.clears_within.total_seconds() / 60,
                        "overdue": one.overdue,
                        "overdue money": float(one.overdue_money),
                    }
                )
                for one in balances
            ]
        ),
        "overdue": sum(one.overdue for one in balances),
    }
    for one in balances:
        name = f"{one.flow}_{one.stage.name}" if len({balance.flow for balance in balances}) > 1 else one.stage.name
        metadata[name] = metadata.get(name, 0) + one.items
    for currency in sorted({one.currency for one in balances if one.currency}):
        metadata[_named("overdue_money", currency)] = float(
            sum((one.overdue_money for one in balances if one.currency == currency), Decimal(0))
        )
    return metadata


def _record(one: ShownDifference) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "kind": one.kind,
            "key": ", ".join(f"{name} {value}" for name, value in one.key.items()),
            "source | target": "; ".join(one.values),
            "first seen": one.first_seen.isoformat(timespec="seconds"),
            "age (minutes)": round(one.age.total_seconds() / 60, 1),
            "at stake": one.at_stake,
            "explanation": one.explanation or "none",
        }
    )


def _sql(name: str) -> str:
    return (
        f"SELECT * FROM reconciliation.differences\nWHERE reconciliation = '{name}' AND resolved_at IS NULL\n"
        "ORDER BY explanation IS NOT NULL, first_seen"
    )


def _bounds(warn: Decimal | None, error: Decimal | None) -> list[tuple[str, Decimal]]:
    return [(level, bound) for level, bound in (("warn", warn), ("error", error)) if bound is not None]


def _named(name: str, currency: str) -> str:
    letters = "".join(letter for letter in currency if letter.isalnum())
    return f"{name}_{letters}" if letters else name
