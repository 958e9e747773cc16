"""``incident-pipelines trace``: one business case from its source to the marts.

Like the rest of the command line it imports what it needs when it runs.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from incident_pipelines.commands.addresses import addresses
from incident_pipelines.commands.arguments import AsJson


def trace(
    correlation_id: Annotated[str, typer.Argument(metavar="CORRELATION_ID", help="What ties one case together.")],
    as_json: AsJson = False,
) -> None:
    """Show one business case from its source to the marts; exit 1: not found, 2: not everything could be looked at."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.commands.trace_table import print_trace
    from incident_pipelines.core.masking import printable
    from incident_pipelines.stages.trace import trace as trace_now

    variables = addresses("WAREHOUSE_URL")
    found = trace_now(load_catalog(variables), variables, correlation_id)
    if as_json:
        typer.echo(json.dumps(asdict(found), default=str, indent=2))
    elif found.found or found.unavailable:
        print_trace(found)
    if found.unavailable:
        raise typer.Exit(2)
    if not found.found:
        told = "".join(f"; {note}" for note in found.notes)
        typer.echo(f"error: no trace of correlation id {printable(correlation_id)!r} anywhere{told}", err=True)
        raise typer.Exit(1)
