"""``incident-pipelines recoverability``: what would be lost if this died now?

Like the rest of the command line it imports what it needs when it runs.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from incident_pipelines.commands.addresses import addresses
from incident_pipelines.commands.arguments import AsJson, now

if TYPE_CHECKING:
    from incident_pipelines.core.recovery.coverage import Recoverability


def recoverability(
    dataset: Annotated[str | None, typer.Option(help="Only this dataset.")] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=400, help="How many days, today included; if absent, as far as anybody keeps them."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which source could replay each day, until when, and what would be gone for good without the landing log."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.core.recovery.shown import (
        complete_text,
        day_text,
        events_text,
        gone_text,
        replays_text,
        until_text,
    )
    from incident_pipelines.stages.recovery.recoverability import recoverability_map

    variables = addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    progress = Console(stderr=True)
    with progress.status("asking the sources") as status:
        found = recoverability_map(load_catalog(variables), variables, now(), days, dataset, status.update)
    if as_json:
        shown = {"as_of": found.as_of, "days": [_as_json(day) for day in found.days], "notes": found.notes}
        typer.echo(json.dumps(shown, default=str, indent=2))
        return
    table = Table("day", "source", "replays", "events", "complete", "until", "why")
    for day in found.days:
        for number, one in enumerate(day.coverages):
            table.add_row(
                Text(f"{day.dataset} {day_text(day)}" if number == 0 else ""),
                one.source,
                replays_text(one),
                events_text(one),
                complete_text(one),
                until_text(one),
                Text(one.reason),
            )
        declared = "not declared" if day.declared is None else f"{day.declared:,} declared"
        table.add_row("", Text("without landing_log", style="italic"), "", Text(gone_text(day)), declared, "", "")
        table.add_section()
    Console(width=max(Console().width, 150)).print(table)
    for note in found.notes:
        typer.echo(note, err=True)


def _as_json(day: "Recoverability") -> dict[str, Any]:
    gone = day.gone_without()
    return {
        "dataset": day.dataset,
        "window_start": day.window.start,
        "window_end": day.window.end,
        "settled": day.settled,
        "declared": day.declared,
        "chosen": [one.source for one in day.chosen],
        "gone_without_landing_log": {
            "at_least": gone.at_least,
            "at_most": gone.at_most,
            "unknown_sources": gone.unknown,
        },
        "sources": [
            {
                "source": one.source,
                "replays": one.replays,
                "events": one.events,
                "events_at_most": one.at_most,
                "complete": one.complete,
                "until": one.until,
                "seconds": None if one.seconds is None else round(one.seconds, 1),
                "reason": one.reason or None,
            }
            for one in day.coverages
        ],
    }
