"""What a supervised program is. Other packages offer lists of these under an entry point."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ENTRY_POINT_GROUP = "incident_pipelines.stack_programs"
# Marks the processes of a stack, and their children: a shell that merely has the home in its environment is not one.
PROGRAM_VARIABLE = "INCIDENT_PIPELINES_PROGRAM"


@dataclass(frozen=True)
class Program:
    """One program that supervisord runs and restarts.

    Args:
        name: Its name in `status`.
        command: Program and arguments; `{number}` is the member's number when there are several.
        role: Whose database addresses it gets (`environment.ROLE_DATABASES`); None for none.
        environment: Variables of its own.
        ports: Variable that receives a port → name under which the chosen port is remembered.
        members: How many run; with more than one, or `numbered`, they are called `name:0`, `name:1`, …
        stop_signal: What asks it to end cleanly.
        stop_seconds: How long that may take before it is killed.
        start_seconds: How long it must live to count as started.
    """

    name: str
    command: tuple[str, ...]
    role: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    ports: Mapping[str, str] = field(default_factory=dict[str, str])
    members: int = 1
    numbered: bool = False
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    start_seconds: int = 2

    @property
    def process_names(self) -> tuple[str, ...]:
        """The names of its processes, as supervisord and `status` show them."""
        if self.members > 1 or self.numbered:
            return tuple(f"{self.name}:{number}" for number in range(self.members))
        return (self.name,)
