"""``incident-pipelines correct`` and ``missed-deletes``: what a person puts right in the landing log by hand."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from incident_pipelines.commands.addresses import addresses, control_database, warehouse_database
from incident_pipelines.commands.arguments import IncidentOption, incident_number, instant, now, person
from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from incident_pipelines.core.recovery.deletes import MissedDeletes
    from incident_pipelines.core.windows import TimeWindow
    from incident_pipelines.stages.recovery.correct import Prepared

As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who you are; a second person, not the author.")]
OWNER = "missed-deletes command"


def correct(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A reviewed file in sql/corrections.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="A dataset that enters through the landing log.")],
    incident_id: IncidentOption = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show what would happen, and change nothing.")] = False,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Rows it may return.")] = None,
    as_name: As = None,
) -> None:
    """Append what a reviewed SELECT returns to the landing log, once; a second person applies it."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.core.recovery.correction import MAX_ROWS, check_approver
    from incident_pipelines.stages.recovery.correct import apply_correction, prepare_correction

    variables = addresses("WAREHOUSE_URL", *(["CONTROL_DATABASE_URL"] if incident_id else []))
    catalog, as_of = load_catalog(variables), now()
    prepared = prepare_correction(catalog, variables, file, dataset, as_of, max_rows or MAX_ROWS)
    _print_prepared(prepared)
    if preview:
        return
    check_approver(prepared.correction, as_name or "")
    with control_database("correct command") if incident_id else nullcontext() as control:
        appended = apply_correction(
            catalog,
            variables,
            prepared,
            person(as_name),
            as_of,
            control=control,
            incident_id=incident_number(incident_id) if incident_id else None,
        )
    typer.echo(
        f"{appended:,} rows appended; the next refresh publishes them"
        if appended
        else "nothing was appended: all of it is in the log already"
    )


def missed_deletes(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Rows that are read from a table of a source.")],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First hour: 2026-11-01T13, UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End of the last hour.")] = None,
    incident_id: IncidentOption = None,
    at_most: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Remove up to so many rows; you have looked at them.")
    ] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Take back what was removed for the incident.")] = False,
    as_name: As = None,
) -> None:
    """Show rows that their source no longer has; with --at-most remove them, with --restore take them back."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.core.windows import TimeWindow
    from incident_pipelines.stages.recovery.missed_deletes import find_missed_deletes, source_of, table_contract
    from incident_pipelines.stages.recovery.remove_deletes import remove, take_back

    changes = restore or at_most is not None
    if changes and (incident_id is None or as_name is None):
        raise IncidentPipelinesError("to change anything, say for which incident and who you are: --incident, --as")
    variables = addresses("WAREHOUSE_URL", *(["CONTROL_DATABASE_URL"] if changes else []))
    catalog, as_of = load_catalog(variables), now()
    contract = table_contract(catalog, dataset)
    if contract.time_column is None:
        windows = [catalog.whole]
    elif restore:
        windows = []
    elif since is None or until is None:
        raise IncidentPipelinesError("say which hours to look at: --from 2026-11-01T13 --to 2026-11-01T15, UTC")
    else:
        windows = _hours(TimeWindow(instant(since, as_of), instant(until, as_of)))
    with warehouse_database(OWNER) as warehouse:
        if not changes:
            with source_of(catalog, variables, contract) as source:
                _print_found(find_missed_deletes(source, warehouse, contract, windows, as_of))
            return
        with control_database(OWNER) as control:
            by, known = person(as_name), incident_number(incident_id or "")
            if restore:
                back = take_back(control, warehouse, catalog, known, dataset, by, as_of)
                typer.echo(f"{back:,} rows are back in the log; the next refresh publishes them")
                return
            done = remove(control, warehouse, catalog, variables, known, dataset, windows, by, as_of, agreed=at_most)
    for line in done.refused:
        typer.echo(line, err=True)
    typer.echo(f"{done.removed:,} rows removed; the next refresh publishes it, --restore takes it back")
    if done.refused:
        raise typer.Exit(1)


def _hours(span: "TimeWindow") -> "list[TimeWindow]":
    from incident_pipelines.core.windows import HOUR, TimeWindow

    first, last = TimeWindow.hour_of(span.start), TimeWindow.hour_of(span.end)
    end = span.end if span.end == last.start else last.end
    return list(TimeWindow(first.start, end).split(HOUR))


def _print_prepared(prepared: "Prepared") -> None:
    import json

    from incident_pipelines.core.masking import printable

    said = prepared.correction
    typer.echo(printable(f"{said.file}: {said.action} by {said.author}, on {said.source}: {said.reason}"))
    typer.echo(f"{prepared.rows:,} rows of {prepared.contract.name}:")
    for window, rows in prepared.windows.items():
        typer.echo(f"  {window}: {rows:,}")
    if prepared.unknown:
        typer.echo(f"  not in the log, or removed already: {prepared.unknown:,}")
    for row in prepared.sample:
        typer.echo(f"  {json.dumps(row, default=str, ensure_ascii=False)}")
    for name in dict.fromkeys(one.dataset for one in prepared.touched):
        days = [one.window for one in prepared.touched if one.dataset == name]
        typer.echo(f"mart {name}: {len(days)} days, {min(days).start:%Y-%m-%d} to {max(days).start:%Y-%m-%d}")


def _print_found(found: "MissedDeletes") -> None:
    if not found.windows:
        typer.echo(f"{found.dataset}: the source has every row that raw has")
        return
    for one in found.windows:
        told = f"; may not go without a person: {one.refused}" if one.refused else ""
        typer.echo(f"{one.window}: {len(one.keys):,} of {one.rows:,} rows are gone at the source{told}")
