"""Bringing a whole stack up: infrastructure, preparation, services, readiness."""

import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from incident_pipelines.stack import dagster_server, services
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.ports import accepts_connections
from incident_pipelines.stack.programs import Program
from incident_pipelines.stack.stack import Stack, wait_for

HOOK_GROUP = "incident_pipelines.prepare_hooks"

_READY_SECONDS = 180.0
_STUCK_SECONDS = 600.0
_POLL_SECONDS = 1.0

Report = Callable[[str], None]


def start_everything(stack: Stack, report: Report) -> None:
    """Start a stack that does not run, in order, and wait until it serves.

    Args:
        report: Told of each step.

    Raises:
        StackError: Something prevents it; nothing is left running.
    """
    programs = services.services_of(stack.home, stack.state)
    dagster_server.prepare_files(stack.home, stack.state.ports[services.CODE_PORT])
    # Tables are made by one process at a time; once they are there, loading the code need not wait for the databases.
    at_once = (services.CODE_SERVER,) if _storage_is_current(stack) else ()
    stack.start_infrastructure(report, programs, at_once)
    try:
        _prepare(stack, report)
        start_services(stack, programs, report)
        _wait_until_ready(stack, programs, report)
        stack.state.running = True
        stack.state.save(stack.home)
        if not stack.state.filled:
            stack.postgres.checkpoint()
            # The schedule would come to it within a minute.
            dagster_server.launch_job(stack.state.ports[services.WEB_PORT], services.REFRESH_JOB)
            wait_for_first_refresh(stack.environment("owner"), report)
            stack.postgres.checkpoint()
            stack.state.filled = True
            stack.state.save(stack.home)
    except BaseException:
        stack.stop(report)
        raise


def revive(stack: Stack, report: Report) -> None:
    """Bring back a stack whose supervisord has died, without preparing anything anew."""
    programs = services.services_of(stack.home, stack.state)
    stack.start_infrastructure(report, programs, (services.CODE_SERVER,))
    start_services(stack, programs, report)


def start_services(stack: Stack, programs: tuple[Program, ...], report: Report) -> None:
    """Start the services. Dagster's webserver and daemon wait for the code server, or they show it as unavailable."""
    report("starting the services")
    names = [name for program in programs for name in program.process_names]
    after_code = (services.WEB_SERVER, services.DAEMON)
    for name in names:
        if name not in after_code:
            stack.supervisor.start_process(name)
    code_port = stack.state.ports[services.CODE_PORT]
    if not wait_for(lambda: accepts_connections(code_port), _READY_SECONDS):
        raise StackError(
            "Dagster's code server does not answer", f"see {stack.home.logs / f'{services.CODE_SERVER}.log'}"
        )
    for name in after_code:
        stack.supervisor.start_process(name)


def wait_for_first_refresh(environment: Mapping[str, str], report: Report) -> None:
    """Wait until every window that is stale now has been published or refused once, showing how many are left.

    Live events make windows stale again, so what counts is that each was decided at all. It is given up, saying so,
    when nothing has moved for ten minutes.

    Args:
        environment: The variables of the role `owner`.
    """
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.adapters.databases.postgres import postgres_engine
    from incident_pipelines.stages.publication.refresh import StaleWindow, stale_windows, undecided_windows

    catalog = load_catalog(environment)
    warehouse = postgres_engine(environment["WAREHOUSE_URL"], "incident-pipelines up", pool_size=1)
    expected: set[StaleWindow] = set()
    least, moved = sys.maxsize, time.monotonic()
    while True:
        # Publishing raw makes marts stale that were not before.
        expected.update(stale_windows(warehouse, catalog))
        left = len(undecided_windows(warehouse, expected))
        if not left:
            report("everything is published")
            break
        report(f"publishing the history: {left} windows left")
        if left < least:
            least, moved = left, time.monotonic()
        elif time.monotonic() - moved > _STUCK_SECONDS:
            report(f"{left} windows are still to be published: look at the runs in the Dagster UI")
            break
        time.sleep(_POLL_SECONDS)
    warehouse.dispose()


def _prepare(stack: Stack, report: Report) -> None:
    from incident_pipelines.stages.prepare import prepare

    owner = stack.environment("owner")
    report("preparing the warehouse")
    prepare(owner)
    if not _storage_is_current(stack):
        report("preparing Dagster's storage")
        dagster_server.migrate_storage(stack.environment("publisher"))
        stack.state.dagster_version = dagster_server.storage_version()
        stack.state.save(stack.home)
        # It loads while the example's history does.
        stack.supervisor.start_process(services.CODE_SERVER)
    if stack.state.example:
        for hook in sorted(entry_points(group=HOOK_GROUP), key=lambda hook: hook.name):
            hook.load()(owner, report)


def _storage_is_current(stack: Stack) -> bool:
    return stack.state.dagster_version == dagster_server.storage_version()


def _wait_until_ready(stack: Stack, programs: tuple[Program, ...], report: Report) -> None:
    report("waiting for the Dagster UI")
    port = stack.state.ports[services.WEB_PORT]
    problem: list[str] = []

    def location_is_loaded() -> bool:
        found = dagster_server.location_problem(port, reload=True)
        problem[:] = [found] if found else []
        return found is None

    if not wait_for(location_is_loaded, _READY_SECONDS, interval_seconds=0.3):
        detail = problem[0] if problem else "the webserver does not answer"
        raise StackError(f"Dagster did not load the code location: {detail}", f"the logs are in {stack.home.logs}")
    expected = {name for program in programs for name in program.process_names}

    def down() -> list[str]:
        return [
            process.name
            for process in stack.supervisor.processes()
            if process.name in expected and process.state != "RUNNING"
        ]

    if not wait_for(lambda: not down(), 60.0):
        raise StackError(f"these do not stay up: {', '.join(down())}", f"the logs are in {stack.home.logs}")
