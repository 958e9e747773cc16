"""`up`, `down` and `status`, for the command line to register."""

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from incident_pipelines.stack import startup
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.own_catalog import KAFKA_VARIABLE, own_variables
from incident_pipelines.stack.progress import Progress
from incident_pipelines.stack.services import WEB_PORT
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stack.status import status_of

_LOCK_SECONDS = 120.0
_LOOK_SECONDS = 1.0
# Within this time the keeper holds the home if it lives; otherwise the command itself brings the stack back.
_KEEPER_SECONDS = 5.0
_STARTING_ELSEWHERE_SECONDS = 2.0

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="A free one is chosen and remembered by default.")]


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False,
    no_example: Annotated[
        bool, typer.Option("--no-example", help="Neither load the example's history nor run its live service.")
    ] = False,
    landers: Annotated[int | None, typer.Option(min=1, max=32, help="How many landers share the topics.")] = None,
    postgres_port: Port = None,
    kafka_port: Port = None,
    dagster_port: Port = None,
) -> None:
    """Start the local stack: PostgreSQL, Kafka, the landers, Dagster and the example. Ctrl-C stops it."""
    console = Console()
    stack = Stack(Home.from_environment())
    with _messages(), _stoppable():
        try:
            with stack.exclusive(_STARTING_ELSEWHERE_SECONDS):
                if stack.supervisor.answers() and stack.state.running:
                    console.print("The stack is running already.")
                    _print_addresses(stack, console)
                    return
                with Progress(console) as progress:
                    if stack.supervisor.answers():
                        stack.stop(progress.report)
                    stack.state.example = not no_example
                    # Without the variables it goes on with the catalog it had.
                    stack.state.own = own_variables(os.environ, stack.state.example) or stack.state.own
                    if KAFKA_VARIABLE in stack.state.own:
                        stack.state.kafka_group = stack.state.kafka_group or secrets.token_hex(4)
                    stack.state.landers = landers or stack.state.landers
                    for name, port in (("postgres", postgres_port), ("kafka", kafka_port), (WEB_PORT, dagster_port)):
                        stack.state.choose_port(name, port)
                    startup.start_everything(stack, progress.report)
            _print_addresses(stack, console)
            if detach:
                console.print("It runs in the background; `incident-pipelines down` stops it.")
                return
            console.print("Ctrl-C stops it.")
            _stay(stack, console)
        except (KeyboardInterrupt, _Terminated):
            # A second Ctrl-C must not cut the orderly stop short.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with stack.exclusive(_LOCK_SECONDS), Progress(console) as progress:
                stack.stop(progress.report)
            console.print("Stopped.")


def down() -> None:
    """Stop the local stack, and what a crash may have left of it."""
    console = Console()
    stack = Stack(Home.from_environment())
    with _messages():
        if not stack.home.path.exists():
            console.print("Nothing is running.")
            return
        with stack.exclusive(_LOCK_SECONDS), Progress(console) as progress:
            was_running = stack.stop(progress.report)
        console.print("Stopped." if was_running else "Nothing is running.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Show what runs and where it is: exit code 0 when all run, 1 when something is down, 3 when nothing runs."""
    console = Console()
    with _messages():
        found = status_of(Stack(Home.from_environment()))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    elif not found.processes:
        console.print(f"Nothing is running in {found.home.path}.", highlight=False, soft_wrap=True)
        if found.orphans:
            console.print(
                f"A crash left these behind, `incident-pipelines down` stops them: {', '.join(found.orphans)}"
            )
    else:
        console.print(found.processes_table())
        _print_lines(console, found.address_lines())
    raise typer.Exit(found.exit_code)


def running_environment() -> dict[str, str]:
    """The addresses of the stack that runs in this home, as its owner; empty when none runs."""
    stack = Stack(Home.from_environment())
    return stack.environment("owner") if stack.supervisor.answers() else {}


class _Terminated(BaseException):
    """The process was asked to end by a signal other than Ctrl-C."""


def _stay(stack: Stack, console: Console) -> None:
    """Wait for Ctrl-C, and bring the stack back if both supervisord and its keeper were killed."""
    silent_since: float | None = None
    while True:
        time.sleep(_LOOK_SECONDS)
        if stack.supervisor.answers():
            silent_since = None
            continue
        stack = Stack(stack.home)
        if not stack.state.running:
            console.print("The stack was stopped by another command.")
            return
        silent_since = silent_since or time.monotonic()
        if time.monotonic() - silent_since < _KEEPER_SECONDS:
            continue
        with stack.exclusive(_LOCK_SECONDS):
            if not stack.supervisor.answers() and stack.state.running:
                console.print("supervisord was killed; starting it again.")
                with Progress(console) as progress:
                    startup.revive(stack, progress.report)


def _print_addresses(stack: Stack, console: Console) -> None:
    _print_lines(console, status_of(stack).address_lines())
    console.print()


def _print_lines(console: Console, lines: list[str]) -> None:
    console.print()
    # An address must not be wrapped: it is copied from here.
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the signals of an ending terminal or session into an exception."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise _Terminated

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, interrupt)


@contextmanager
def _messages() -> Iterator[None]:
    """Show an expected problem as a message and not as a traceback."""
    try:
        yield
    except StackError as error:
        console = Console(stderr=True)
        console.print(f"[red]error:[/red] {str(error).replace('[', chr(92) + '[')}", highlight=False, soft_wrap=True)
        if error.hint:
            console.print(error.hint, markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
