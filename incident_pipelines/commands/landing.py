"""``incident-pipelines landing …``: runs a lander, shows how far the landing log is, lets a stopped topic go on.

Like the rest of the command line it imports what it needs when it runs.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from incident_pipelines.commands.addresses import addresses
from incident_pipelines.commands.arguments import AsJson
from incident_pipelines.commands.stopping import stopped_by_signal

landing = typer.Typer(name="landing", help="The landing log: what is in it and how far it is.", no_args_is_help=True)


@landing.command("run")
def landing_run(
    member: Annotated[str, typer.Option(help="Static member name; each running lander needs its own.")] = "0",
    group: Annotated[str, typer.Option(help="Consumer group that shares the partitions.")] = "incident-pipelines",
) -> None:
    """Land all topics of the catalog until stopped."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.adapters.logs import log_json
    from incident_pipelines.stages.landing.land import Lander

    log_json()
    variables = addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    Lander(load_catalog(variables), variables, member, group).run(stopped_by_signal())


@landing.command("status")
def show_status(as_json: AsJson = False) -> None:
    """Show next offset, lag and state of each partition."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from incident_pipelines.stages.landing.state import landing_status

    statuses = landing_status(addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS"))
    if as_json:
        typer.echo(json.dumps([asdict(s) | {"lag": s.lag} for s in statuses], default=str, indent=2))
        return
    table = Table("partition", "next", "broker has", "lag", "gaps", "owner", "state")
    for status in statuses:
        held = "no answer" if status.log_end is None else f"{status.log_start} to {status.log_end}"
        state = Text(status.state)
        if status.stopped_reason is not None:
            state = Text(f"{status.state}: {status.stopped_reason}", style="red")
        lag = "" if status.lag is None else str(status.lag)
        partition = f"{status.topic}:{status.partition}"
        table.add_row(partition, str(status.next), held, lag, str(status.gaps), status.owner or "", state)
    Console().print(table)


@landing.command("resume")
def landing_resume(
    target: Annotated[str, typer.Argument(metavar="TOPIC[:PARTITION]", help="What was stopped.")],
    where: Annotated[str, typer.Option("--from", metavar="start|end|OFFSET", help="Where to go on.")],
) -> None:
    """Let a stopped topic or partition go on, under a new origin."""
    from incident_pipelines.stages.landing.state import resume_landing

    variables = addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    for partition, origin_id, offset in resume_landing(variables, target, where):
        typer.echo(f"{target.partition(':')[0]}:{partition} goes on from offset {offset} as origin {origin_id}")
