"""What runs, and where it can be reached."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.orphans import find_orphans
from incident_pipelines.stack.ports import HOST
from incident_pipelines.stack.postgres import DATABASES, EXAMPLE_DATABASES
from incident_pipelines.stack.services import WEB_PORT
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stack.state import StackState
from incident_pipelines.stack.supervisor import ProcessState


@dataclass(frozen=True)
class StackStatus:
    """A stack at one moment.

    Args:
        databases: Name → SQLAlchemy URL as the owner connects, None before the first start.
        kafka: HOST:PORT, None before the first start.
        dagster_url: Where the Dagster UI is, None before the first start.
        processes: What supervisord knows; empty when it does not run.
        orphans: Programs that run without a supervisord.
    """

    home: Home
    databases: dict[str, str | None]
    kafka: str | None
    dagster_url: str | None
    processes: list[ProcessState]
    orphans: list[str]

    @property
    def exit_code(self) -> int:
        """0 when all run, 1 when something is down, 3 when nothing runs."""
        if not self.processes:
            return 1 if self.orphans else 3
        return 0 if all(process.state == "RUNNING" for process in self.processes) else 1

    def to_json(self) -> dict[str, Any]:
        """The status for programs."""
        return {
            "home": str(self.home.path),
            "databases": self.databases,
            "kafka": self.kafka,
            "dagster_url": self.dagster_url,
            "console_url": None,
            "processes": {process.name: process.state for process in self.processes},
        }

    def processes_table(self) -> Table:
        """The processes for a person."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("process", "state", "pid", "uptime", ""):
            table.add_column(column, justify="right" if column in ("pid", "uptime") else "left")
        for process in self.processes:
            colour = "green" if process.state == "RUNNING" else "red"
            note = "" if process.state == "RUNNING" else process.description
            uptime = "" if process.uptime_seconds is None else _duration(process.uptime_seconds)
            table.add_row(process.name, f"[{colour}]{process.state}[/{colour}]", str(process.pid or ""), uptime, note)
        return table

    def address_lines(self) -> list[str]:
        """Where things are, one line each, for a person."""
        addresses = {
            "Dagster UI": self.dagster_url,
            "Kafka": self.kafka,
            **{f"{name} database": url for name, url in self.databases.items()},
            "logs": str(self.home.logs),
        }
        width = max(map(len, addresses))
        return [f"{name:{width}}  {address}" for name, address in addresses.items() if address]


def status_of(stack: Stack) -> StackStatus:
    """Look at a stack without changing anything.

    Raises:
        StackError: The state file is damaged.
    """
    state = StackState.load(stack.home)
    port = state.ports.get if state else dict[str, int]().get
    started = "postgres" in (state.ports if state else ())
    processes = stack.supervisor.processes() if stack.supervisor.answers() else []
    return StackStatus(
        home=stack.home,
        databases={
            name: stack.postgres.url(name, driver="psycopg2" if name == "dagster" else "psycopg") if started else None
            for name in DATABASES
            if name not in EXAMPLE_DATABASES or state is None or state.has_example_databases
        },
        kafka=stack.bootstrap_servers if port("kafka") else None,
        dagster_url=f"http://{HOST}:{port(WEB_PORT)}" if port(WEB_PORT) else None,
        processes=sorted(processes, key=lambda process: process.name),
        orphans=[] if processes else sorted(set(find_orphans(stack.home).values())),
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
