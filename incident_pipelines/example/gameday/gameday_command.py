"""`incident-pipelines gameday`: reads the options, runs a game day, prints how it went."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from incident_pipelines.core.errors import IncidentPipelinesError

gameday = typer.Typer(help="Game days: a real fault, closed by the system itself, and the truth.", no_args_is_help=True)

EXIT_FAILED, EXIT_CANNOT_RUN, EXIT_STOPPED = 1, 2, 130
MIN_EVENTS, MAX_EVENTS = 5_000, 300_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@gameday.command("list")
def list_gamedays(as_json: AsJson = False) -> None:
    """Show which game days there are."""
    from incident_pipelines.example.gameday.catalogue import SCENARIOS

    if as_json:
        typer.echo(json.dumps([{"name": one.name, "summary": one.summary} for one in SCENARIOS.values()], indent=2))
        return
    table = Table("game day", "what happens")
    for one in SCENARIOS.values():
        table.add_row(one.name, one.summary)
    Console().print(table)


@gameday.command("run")
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `gameday list` names it.")],
    seed: Annotated[int, typer.Option(min=0, max=9_000_000_000, help="Moves times, sizes and victims.")] = 1,
    events: Annotated[
        int, typer.Option(min=MIN_EVENTS, max=MAX_EVENTS, help="Events of game days that write their own, about.")
    ] = 40_000,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the system gets once the fault is over.")] = 900,
    as_json: AsJson = False,
) -> None:
    """Break something in the running stack, and see whether the system closes it; exit 1: it did not, 2: could not run.

    Ctrl-C puts back what was changed.
    """
    from incident_pipelines.example.addresses import command_environment
    from incident_pipelines.example.gameday.catalogue import SCENARIOS
    from incident_pipelines.example.gameday.drill import CannotRun
    from incident_pipelines.example.gameday.run import run_gameday

    console = Console(stderr=True)
    try:
        scenario = SCENARIOS.get(name)
        if scenario is None:
            raise CannotRun(f"there is no game day {name!r}; one of {', '.join(SCENARIOS)}")
        with _stoppable(), console.status(name) as status:

            def report(told: str) -> None:
                status.update(escape(told))
                moment = datetime.now(UTC)
                console.print(f"{moment:%H:%M:%S}  {told}", markup=False, highlight=False, soft_wrap=True)

            outcome = run_gameday(
                scenario, seed, command_environment(), events=events, timeout_seconds=timeout, report=report
            )
    except IncidentPipelinesError as error:
        console.print(f"[red]gameday:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_CANNOT_RUN) from error
    except KeyboardInterrupt:
        console.print("stopped; what was changed is put back")
        raise typer.Exit(EXIT_STOPPED) from None
    result = outcome.to_json()
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(Console(), result)
    if not outcome.passed:
        raise typer.Exit(EXIT_FAILED)


def _print(console: Console, result: dict[str, object]) -> None:
    figures = Table(show_header=False, box=None)
    for key, value in result.items():
        if key not in ("targets", "differences"):
            figures.add_row(key.replace("_", " "), "" if value is None else str(value))
    console.print(figures)
    targets = result["targets"]
    assert isinstance(targets, dict)
    table = Table("target", "measured", "")
    for target in targets.values():
        verdict = "[green]met[/green]" if target["met"] else "[red]missed[/red]"
        table.add_row(target["goal"], target["measured"], verdict)
    console.print(table)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a game day like Ctrl-C: in order, with everything put back."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
