"""``incident-pipelines monitor run``: the process that turns facts into signals.

Like the rest of the command line it imports what it needs when it runs.
"""

import threading
from typing import TYPE_CHECKING

import typer

from incident_pipelines.commands.addresses import addresses
from incident_pipelines.commands.stopping import stopped_by_signal

if TYPE_CHECKING:
    from incident_pipelines.stages.monitoring.landing_watch import LandingWatch
    from incident_pipelines.stages.monitoring.window_watch import WindowWatch

monitor = typer.Typer(name="monitor", help="Turns facts into signals.", no_args_is_help=True)


@monitor.command("run")
def monitor_run() -> None:
    """Turn facts into signals, and watch published windows, topics and landing, until stopped."""
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.adapters.logs import log_json
    from incident_pipelines.stages.monitoring.landing_watch import LandingWatch
    from incident_pipelines.stages.monitoring.monitor import Monitor
    from incident_pipelines.stages.monitoring.window_watch import WindowWatch

    log_json()
    variables = addresses("WAREHOUSE_URL", "CONTROL_DATABASE_URL")
    catalog, stop = load_catalog(variables), stopped_by_signal()
    if catalog.topics:
        variables = addresses("WAREHOUSE_URL", "CONTROL_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS")

    def keep_watching(watch: "WindowWatch | LandingWatch") -> None:
        try:
            watch.run(stop)
        finally:
            stop.set()  # one without the others would look as if all were well: the supervisor starts all again

    for watch in (WindowWatch(catalog, variables), LandingWatch(catalog, variables)):
        threading.Thread(target=keep_watching, args=(watch,), name=type(watch).__name__, daemon=True).start()
    Monitor(variables).run(stop)
