"""The command line: which commands there are. Each parses, calls and prints; what it does is in `stages`."""

import sys
from importlib.metadata import entry_points

import typer

from incident_pipelines.commands.correct import correct, missed_deletes
from incident_pipelines.commands.incident import incident
from incident_pipelines.commands.init import init
from incident_pipelines.commands.landing import landing
from incident_pipelines.commands.monitor import monitor
from incident_pipelines.commands.reconcile import reconcile
from incident_pipelines.commands.recoverability import recoverability
from incident_pipelines.commands.salvage import salvage
from incident_pipelines.commands.topics import topics
from incident_pipelines.commands.trace import trace
from incident_pipelines.core.errors import IncidentPipelinesError

app = typer.Typer(
    help="Closes the loop on a data incident: detect, scope, contain, plan, recover, verify, state the loss, learn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (landing, monitor, reconcile, incident, topics):
    app.add_typer(group)
for command in (recoverability, init, trace, correct, missed_deletes, salvage):
    app.command()(command)


def main() -> None:
    """Run the command line; an error that a person can act on is one line and exit code 2."""
    if sys.argv[1:2] == ["diff"]:
        # On its own it starts in a third of the time, and works where the extra `stack` is not installed.
        from incident_pipelines.commands.diff import diff

        app.command()(diff)
    else:
        _add_all_commands()
    try:
        app()
    except IncidentPipelinesError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _add_all_commands() -> None:
    from incident_pipelines.commands.diff import diff

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


if __name__ == "__main__":
    main()
