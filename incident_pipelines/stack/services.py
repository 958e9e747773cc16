"""The programs of a whole stack beyond PostgreSQL and Kafka."""

import sys
from importlib.metadata import entry_points

from incident_pipelines.stack import dagster_server
from incident_pipelines.stack.environment import APP_SERVICE_PORT
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.ports import HOST
from incident_pipelines.stack.programs import ENTRY_POINT_GROUP, Program
from incident_pipelines.stack.state import StackState

KEEPER = "keeper"
CODE_PORT = "dagster_code"
WEB_PORT = "dagster"
CODE_SERVER = "dagster-code"
WEB_SERVER = "dagster-webserver"
DAEMON = "dagster-daemon"

REFRESH_JOB = "refresh_windows"

_COMMAND_LINE = (sys.executable, "-m", "incident_pipelines.cli")


def services_of(home: Home, state: StackState) -> tuple[Program, ...]:
    """The programs that a whole stack runs, in the order in which they are started.

    Args:
        state: Says how many landers there are and whether the example takes part; receives the ports.

    Raises:
        StackError: A program that somebody offers clashes with another.
    """
    code_port, web_port = str(state.choose_port(CODE_PORT)), str(state.choose_port(WEB_PORT))
    if state.example:
        state.choose_port(APP_SERVICE_PORT)
    role = "publisher"
    workspace = ("-w", str(dagster_server.workspace_file(home)))
    code = ("api", "grpc", "-h", HOST, "-p", code_port, "-m", "incident_pipelines.definitions")
    location = ("--location-name", dagster_server.CODE_LOCATION)
    programs = (
        Program(
            CODE_SERVER,
            (dagster_server.program("dagster"), *code, *location),
            role,
            # Runs inherit it: a backfill of hundreds of windows writes its events in batches.
            environment={"DAGSTER_EVENT_BATCH_SIZE": "100"},
            stop_seconds=30,
        ),
        Program(
            "lander",
            (*_COMMAND_LINE, "landing", "run", "--member", "{number}", *_group(state)),
            role="lander",
            members=state.landers,
            numbered=True,
        ),
        Program("monitor", (*_COMMAND_LINE, "monitor", "run"), role="monitor"),
        *(example_programs() if state.example else ()),
        Program(
            WEB_SERVER, (dagster_server.program("dagster-webserver"), "-h", HOST, "-p", web_port, *workspace), role
        ),
        Program(DAEMON, (dagster_server.program("dagster-daemon"), "run", *workspace), role),
        Program(KEEPER, (sys.executable, "-m", "incident_pipelines.stack.keeper"), start_seconds=1),
    )
    names = ["postgres", "kafka", *(one.name for one in programs)]
    clashing = {name for name in names if names.count(name) > 1}
    if clashing:
        raise StackError(f"two programs are called {', '.join(sorted(clashing))}")
    return programs


def _group(state: StackState) -> tuple[str, ...]:
    """On a Kafka that others use as well, two stacks in one group would share the partitions between them."""
    return ("--group", f"incident-pipelines-{state.kafka_group}") if state.kafka_group else ()


def example_programs() -> tuple[Program, ...]:
    """The programs that other packages offer, by the name of their entry point."""
    offers = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda offer: offer.name)
    return tuple(program for offer in offers for program in offer.load()())
