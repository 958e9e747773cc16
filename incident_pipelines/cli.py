"""The command line: parses, calls, prints.

What a command does is in `stages`, imported when it runs: `--help` must not wait for all of them.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.correct_command import correct, missed_deletes
from incident_pipelines.incident_command import incident
from incident_pipelines.init_command import init
from incident_pipelines.reconcile_command import reconcile
from incident_pipelines.recoverability_command import recoverability
from incident_pipelines.salvage_command import salvage
from incident_pipelines.topics_command import topics

app = typer.Typer(
    help="Closes the loop on a data incident: detect, scope, contain, plan, recover, verify, state the loss, learn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
landing = typer.Typer(help="The landing log: what is in it and how far it is.", no_args_is_help=True)
app.add_typer(landing, name="landing")
monitor = typer.Typer(help="Turns facts into signals.", no_args_is_help=True)
app.add_typer(monitor, name="monitor")
app.add_typer(reconcile, name="reconcile")
app.command("recoverability")(recoverability)
app.command("init")(init)
app.add_typer(incident, name="incident")
app.add_typer(topics, name="topics")
for by_hand in (correct, missed_deletes, salvage):
    app.command()(by_hand)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; an error that a person can act on is one line and exit code 2."""
    if sys.argv[1:2] == ["diff"]:
        # On its own it starts in a third of the time, and works where the extra `stack` is not installed.
        from incident_pipelines.diff_command import diff

        app.command()(diff)
    else:
        _add_all_commands()
    try:
        app()
    except IncidentPipelinesError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _add_all_commands() -> None:
    from incident_pipelines.diff_command import diff

    app.command()(diff)
    _add_stack_commands()
    for command in entry_points(group="incident_pipelines.commands"):
        offered = command.load()
        if isinstance(offered, typer.Typer):
            app.add_typer(offered, name=command.name)
        else:
            app.command(command.name)(offered)


def _add_stack_commands() -> None:
    try:
        from incident_pipelines.stack.commands import down, status, up
    except ImportError:  # installed without the extra `stack`
        return
    for command in (up, down, status):
        app.command()(command)


@landing.command("run")
def landing_run(
    member: Annotated[str, typer.Option(help="Static member name; each running lander needs its own.")] = "0",
    group: Annotated[str, typer.Option(help="Consumer group that shares the partitions.")] = "incident-pipelines",
) -> None:
    """Land all topics of the catalog until stopped."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.adapters.logs import log_json
    from incident_pipelines.stages.land import Lander

    log_json()
    variables = addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    Lander(load_catalog(variables), variables, member, group).run(_stopped_by_signal())


@landing.command("status")
def landing_status(as_json: AsJson = False) -> None:
    """Show next offset, lag and state of each partition."""
    from incident_pipelines.stages import landing_state

    statuses = landing_state.landing_status(addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS"))
    if as_json:
        typer.echo(json.dumps([asdict(s) | {"lag": s.lag} for s in statuses], default=str, indent=2))
        return
    table = Table("partition", "next", "broker has", "lag", "gaps", "owner", "state")
    for status in statuses:
        held = "no answer" if status.log_end is None else f"{status.log_start} to {status.log_end}"
        state = status.state if status.stopped_reason is None else f"[red]{status.state}: {status.stopped_reason}"
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
    from incident_pipelines.stages import landing_state

    variables = addresses("WAREHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS")
    for partition, origin_id, offset in landing_state.resume_landing(variables, target, where):
        typer.echo(f"{target.partition(':')[0]}:{partition} goes on from offset {offset} as origin {origin_id}")


@monitor.command("run")
def monitor_run() -> None:
    """Turn facts into signals, and watch published windows, topics and landing, until stopped."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.adapters.logs import log_json
    from incident_pipelines.stages.landing_watch import LandingWatch
    from incident_pipelines.stages.monitor import Monitor
    from incident_pipelines.stages.window_watch import WindowWatch

    log_json()
    variables = addresses("WAREHOUSE_URL", "CONTROL_DATABASE_URL")
    catalog, stop = load_catalog(variables), _stopped_by_signal()
    if catalog.topics:
        variables = addresses("WAREHOUSE_URL", "CONTROL_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS")

    def keep_watching(watch: WindowWatch | LandingWatch) -> None:
        try:
            watch.run(stop)
        finally:
            stop.set()  # one without the others would look as if all were well: the supervisor starts all again

    for watch in (WindowWatch(catalog, variables), LandingWatch(catalog, variables)):
        threading.Thread(target=keep_watching, args=(watch,), name=type(watch).__name__, daemon=True).start()
    Monitor(variables).run(stop)


@app.command("trace")
def trace_case(
    correlation_id: Annotated[str, typer.Argument(metavar="CORRELATION_ID", help="What ties one case together.")],
    as_json: AsJson = False,
) -> None:
    """Show one business case from its source to the marts; exit 1: not found, 2: not everything could be looked at."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.core.masking import printable
    from incident_pipelines.stages.trace import trace
    from incident_pipelines.trace_table import print_trace

    variables = addresses("WAREHOUSE_URL")
    found = trace(load_catalog(variables), variables, correlation_id)
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


def addresses(*names: str) -> dict[str, str]:
    """Return the environment; where an address is missing, that of the local stack, if there is one.

    Args:
        names: variables the command needs.

    Raises:
        IncidentPipelinesError: one is neither set nor known from a local stack.
    """
    variables = dict(os.environ)
    missing = [name for name in names if not variables.get(name)]
    if missing:
        variables = _stack_addresses() | variables
    still_missing = [name for name in names if not variables.get(name)]
    if still_missing:
        raise IncidentPipelinesError(
            f"{', '.join(still_missing)} not set, and no local stack runs here; set it, or run `incident-pipelines up`"
        )
    return variables


def _stack_addresses() -> dict[str, str]:
    try:
        from incident_pipelines.stack.commands import running_environment
    except ImportError:  # installed without the extra `stack`
        return {}
    return running_environment()


def _stopped_by_signal() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    main()
