"""``incident-pipelines salvage``: completes cases that are paid for and unfinished, and lists those it cannot."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from incident_pipelines.commands.addresses import addresses, control_database
from incident_pipelines.commands.arguments import As, IncidentOption, incident_number, now, person
from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from incident_pipelines.core.salvage import Candidate, Salvage

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m)")
SHOWN = 10


def salvage(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Which of the catalog's, if there are more.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show what is unfinished, and call nobody.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write what could not be completed, for outreach.")
    ] = None,
    with_personal_data: Annotated[
        bool, typer.Option("--with-personal-data", help="In the export; else it is masked.")
    ] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Most calls.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask again about what was refused before.")] = False,
    rate: Annotated[str, typer.Option(metavar="N/s", help="Most calls a second, or N/m a minute.")] = "5/s",
    incident_id: IncidentOption = None,
    as_name: As = None,
) -> None:
    """Complete what is paid for and unfinished by the application's own call; exit 1: something is left."""
    from incident_pipelines.adapters.catalog_files import load_catalog, load_salvages
    from incident_pipelines.stages.recovery.salvage import Left, complete, declared_salvage, unfinished
    from incident_pipelines.stages.recovery.salvage_export import export_left

    calls_per_second = _per_second(rate)
    variables = addresses("CONTROL_DATABASE_URL")
    catalog = load_catalog(variables)
    salvages = load_salvages(catalog, variables)
    declared = declared_salvage(salvages, name)
    variables = addresses(*dict.fromkeys([*_variables(catalog.sources, declared), "CONTROL_DATABASE_URL"]))
    if preview:
        cases = list(unfinished(catalog, salvages, declared, variables, now()))
        _print_preview(cases)
        if export is not None:
            left = [Left(one, "unfinished") for one in cases]
            rows = export_left(
                export, catalog, salvages, declared, variables, left, with_personal_data=with_personal_data
            )
            typer.echo(f"{rows:,} cases written to {export}")
        return
    with control_database("salvage command") as control:
        done = complete(
            control,
            catalog,
            salvages,
            declared,
            variables,
            person(as_name),
            incident_id=incident_number(incident_id) if incident_id else None,
            limit=limit,
            calls_per_second=calls_per_second,
            again=again,
            report=lambda line: typer.echo(line, err=True),
        )
    share = "" if done.share is None else f"; salvage rate {done.share:.1%}"
    typer.echo(f"{done.completed:,} of {done.found:,} unfinished cases completed, {len(done.left):,} left{share}")
    if export is not None:
        rows = export_left(
            export, catalog, salvages, declared, variables, done.left, with_personal_data=with_personal_data
        )
        typer.echo(f"{rows:,} cases written to {export}")
    if done.away:
        raise IncidentPipelinesError(f"{done.away}; run it again to go on")
    if done.left:
        raise typer.Exit(1)


def _variables(sources: "Mapping[str, str]", declared: "Salvage") -> list[str]:
    selects = [declared.candidates, declared.finished, *([declared.outreach] if declared.outreach else [])]
    return [sources[one.source] for one in selects]


def _per_second(rate: str) -> float:
    found = _RATE.fullmatch(rate)
    if found is None or float(found[1]) <= 0:
        raise IncidentPipelinesError(f"--rate {rate!r} is no rate; write it like 5/s or 30/m")
    return float(found[1]) / (60 if found[2] == "m" else 1)


def _print_preview(cases: "list[Candidate]") -> None:
    from incident_pipelines.core.masking import printable
    from incident_pipelines.core.salvage import totals

    typer.echo(f"{len(cases):,} cases are paid for and unfinished")
    for currency, (count, money) in totals(cases).items():
        typer.echo(f"  {count:,} worth {money:,.2f} {currency}")
    for one in cases[:SHOWN]:
        typer.echo(printable(f"  {one.key}  {one.amount} {one.currency}  since {one.since:%Y-%m-%d %H:%M} UTC"))
