"""``incident-pipelines reconcile …``: lists, runs and shows reconciliations.

Like the rest of the command line it imports what it needs when it runs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from incident_pipelines.commands.addresses import addresses, control_database
from incident_pipelines.commands.arguments import AsJson, absolute, now
from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from incident_pipelines.core.catalog import Catalog
    from incident_pipelines.core.windows import TimeWindow
    from incident_pipelines.stages.reconciliation.reconcile import Reconciled

reconcile = typer.Typer(
    name="reconcile", help="Reconciles declared pairs of tables, and shows what differs.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the reconciliation; `reconcile list` shows them.")]
OWNER = "reconcile command"


@reconcile.command("list")
def list_reconciliations(as_json: AsJson = False) -> None:
    """List the declared reconciliations with their last run."""
    from incident_pipelines.stages.reconciliation.difference_figures import last_run

    with _opened() as (catalog, _, control):
        rows: list[dict[str, Any]] = []
        for declared in catalog.reconciliations.values():
            run = last_run(control, declared.name) or {}
            rows.append(
                {
                    "name": declared.name,
                    "source": f"{declared.source.source}: {declared.source.table or declared.source.sql}",
                    "target": f"{declared.target.source}: {declared.target.table or declared.target.sql}",
                    "owner": declared.owner,
                    "last_run": run.get("as_of"),
                    "mode": run.get("mode"),
                    "gap_rate": None if not run else float(run["gap_rate"]),
                    "open": run.get("open_unexplained"),
                    "in_flight": run.get("open_in_flight"),
                    "verdict": run.get("verdict"),
                }
            )
    _print(rows, as_json)


@reconcile.command("run")
def run_reconciliation(
    name: Name,
    hour: Annotated[
        str | None, typer.Option(metavar="HOUR", help="UTC, like 2026-11-01T13; if absent the last that has settled.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Look at everything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Reconcile an hour or everything; exit 0: within the thresholds, 1: beyond them, 2: could not look."""
    from incident_pipelines.stages.reconciliation.reconcile import declared_reconciliation
    from incident_pipelines.stages.reconciliation.reconcile import reconcile as reconcile_now

    if full and hour:
        raise IncidentPipelinesError("--hour and --full exclude each other")
    as_of = now()
    with _opened() as (catalog, variables, control), _told():
        declared = declared_reconciliation(catalog, name)
        window = None if full else _hour(hour) if hour else _settled_hour(as_of, declared.grace)
        run = reconcile_now(
            catalog,
            control,
            name,
            window,
            as_of=as_of,
            owner=OWNER,
            environment=variables,
            report=lambda text: typer.echo(text, err=True),
        )
    low = run.join_rate is not None and run.join_rate.verdict != "ok"
    if as_json:
        typer.echo(json.dumps(_as_json(run), default=str, indent=2))
    else:
        typer.echo(f"{name} {run.window} UTC: {run.statement}")
        typer.echo(
            f"opened {run.opened}, reopened {run.reopened}, resolved {run.resolved}; open and unexplained "
            f"{run.open_unexplained}, in flight {run.open_in_flight}, of known incidents {run.open_incident}"
        )
        if run.join_rate:
            typer.echo(f"{run.join_rate.rule.name}: {run.join_rate.statement}")
    if run.verdict != "ok" or low:
        raise typer.Exit(1)


@reconcile.command("differences")
def show_differences(
    name: Name,
    only_open: Annotated[bool, typer.Option("--open", help="Leave resolved ones out.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the differences of a reconciliation with both values; personal data is masked."""
    from incident_pipelines.stages.reconciliation.difference_figures import shown_differences
    from incident_pipelines.stages.reconciliation.reconcile import declared_reconciliation

    with _opened() as (catalog, _, control), _told():
        declared = declared_reconciliation(catalog, name)
        found = shown_differences(control, catalog, declared, only_open=only_open, rows=limit)
    if as_json:
        rows = [
            {
                "difference_id": one.difference_id,
                "kind": one.kind,
                "key": one.key,
                "columns": {
                    column: {"source": source, "target": target} for column, (source, target) in one.columns.items()
                },
                "first_seen": one.first_seen,
                "last_seen": one.last_seen,
                "resolved_at": one.resolved_at,
                "age_seconds": int(one.age.total_seconds()),
                "reopened": one.reopened,
                "at_stake": one.at_stake,
                "explanation": one.explanation or None,
                "incident_id": one.incident_id,
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, default=str, indent=2))
        return
    _print(
        [
            {
                "kind": one.kind,
                "key": ", ".join(f"{column} {value}" for column, value in one.key.items()),
                "source | target": ("\n" if one.kind == "mismatched" else ", ").join(one.values),
                "first seen": f"{one.first_seen.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                "age": str(one.age).split(".", maxsplit=1)[0],
                "at stake": one.at_stake,
                "state": "resolved" if one.resolved_at else one.explanation or "open",
            }
            for one in found
        ],
        False,
    )


@reconcile.command("clearing")
def show_clearing(as_json: AsJson = False) -> None:
    """Show what has not cleared, for each stage of each flow; exit 1: something is overdue."""
    from incident_pipelines.stages.reconciliation.clearing import clearing_balances

    as_of = now()
    with _opened() as (catalog, variables, _):
        balances = [
            one for flow in catalog.clearings.values() for one in clearing_balances(catalog, variables, flow, as_of)
        ]
    _print(
        [
            {
                "flow": one.flow,
                "stage": one.stage.name,
                "not_cleared": one.items,
                "money": str(one.money),
                "currency": one.currency,
                "oldest_seconds": one.age_seconds(as_of),
                "clears_within_seconds": int(one.stage.clears_within.total_seconds()),
                "overdue": one.overdue,
                "overdue_money": str(one.overdue_money),
            }
            for one in balances
        ],
        as_json,
    )
    if any(one.overdue for one in balances):
        raise typer.Exit(1)


@contextmanager
def _opened() -> "Iterator[tuple[Catalog, dict[str, str], Engine]]":
    """Give the catalog, the addresses and an engine of the control database."""
    from incident_pipelines.adapters.catalog_files import load_catalog

    variables = addresses("CONTROL_DATABASE_URL")
    with control_database(OWNER) as control:
        yield load_catalog(variables), variables, control


@contextmanager
def _told() -> Iterator[None]:
    """Tell a name or an option that cannot be served as one line."""
    try:
        yield
    except ValueError as error:
        raise IncidentPipelinesError(str(error)) from error


def _hour(text: str) -> "TimeWindow":
    from incident_pipelines.core.windows import TimeWindow

    try:
        instant = absolute(text)
    except ValueError as error:
        raise IncidentPipelinesError(f"--hour {text!r} is not an hour; write it like 2026-11-01T13") from error
    window = TimeWindow.hour_of(instant)
    if window.start != instant:
        raise IncidentPipelinesError(f"--hour {text!r} is within an hour; write it like {window.start:%Y-%m-%dT%H}")
    return window


def _settled_hour(as_of: datetime, grace: Any) -> "TimeWindow":
    from incident_pipelines.core.windows import HOUR, TimeWindow

    return TimeWindow.hour_of(as_of - grace - HOUR)


def _as_json(run: "Reconciled") -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "reconciliation": run.declared.name,
        "mode": run.mode,
        "as_of": run.as_of,
        "window_start": run.window.start,
        "window_end": run.window.end,
        "counts": asdict(run.counts),
        "gap_rate": float(run.gap_rate),
        **run.ledger,
        "money_at_stake": {currency: str(money) for currency, money in run.money.items()},
        "join_rate": None
        if run.join_rate is None
        else {
            "name": run.join_rate.rule.name,
            "joined": run.join_rate.joined,
            "total": run.join_rate.total,
            "verdict": run.join_rate.verdict,
        },
        "verdict": run.verdict,
        "statement": run.statement,
        "seconds": round(run.seconds, 3),
        "signal_id": run.signal_id,
    }


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, default=str, indent=2))
        return
    if not rows:
        typer.echo("none")
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    Console(width=max(Console().width, 160)).print(table)
