"""What one stack remembers between two starts: its ports, its first day, its options."""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from incident_pipelines.stack import ports
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home, write_atomically

START_VARIABLE = "INCIDENT_PIPELINES_START"


@dataclass
class StackState:
    """The remembered state of one home.

    Args:
        start: First day of the partitions, ISO date, UTC.
        ports: Name → port.
        landers: How many landers run.
        example: Whether the example feeds the stack.
        running: Whether a whole stack is meant to run: set when it is up, unset by an orderly stop.
        filled: Whether everything has been published once.
        dagster_version: The Dagster release that its storage was last prepared for.
        own: What a catalog of one's own brings (`own_catalog.own_variables`); addresses may hold passwords.
        kafka_group: Tells its landers from other stacks' on somebody else's Kafka.
    """

    start: str
    ports: dict[str, int] = field(default_factory=dict[str, int])
    landers: int = 1
    example: bool = True
    running: bool = False
    filled: bool = False
    dagster_version: str = ""
    own: dict[str, str] = field(default_factory=dict[str, str])
    kafka_group: str = ""

    @property
    def has_example_databases(self) -> bool:
        """Whether the example's databases and roles are part of the stack: the catalog that ships reads them."""
        return self.example or not self.own

    @classmethod
    def load(cls, home: Home) -> "StackState | None":
        """The state of a home, None when no stack was ever started there.

        Raises:
            StackError: The file was damaged or comes from another version.
        """
        try:
            content: dict[str, Any] = json.loads(home.state_file.read_text(encoding="utf-8"))
            return cls(**content)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{home.state_file} cannot be read: {error}",
                "move the file away: ports are then chosen anew, and no data is lost",
            ) from error

    @classmethod
    def first(cls, now: datetime) -> "StackState":
        """The state of a stack that starts for the first time.

        Args:
            now: Aware; its previous month's first day is the first partition unless the environment names one.

        Raises:
            StackError: The environment names no date.
        """
        given = os.environ.get(START_VARIABLE)
        if given:
            try:
                return cls(start=datetime.fromisoformat(given).date().isoformat())
            except ValueError as error:
                raise StackError(f"{START_VARIABLE}={given} is not a date", "write it as 2025-01-31") from error
        last_of_previous = now.astimezone(UTC).date().replace(day=1) - timedelta(days=1)
        return cls(start=last_of_previous.replace(day=1).isoformat())

    def save(self, home: Home) -> None:
        """Write the state so that a crash leaves the former or the new one."""
        write_atomically(home.state_file, json.dumps(asdict(self), indent=2) + "\n", mode=0o600)

    def choose_port(self, name: str, given: int | None = None) -> int:
        """The port for a purpose: the given one, else the remembered one, else a free one."""
        if given is not None:
            self.ports[name] = given
        elif name not in self.ports:
            self.ports[name] = ports.choose_free_port(set(self.ports.values()))
        return self.ports[name]
