"""Finds the stack that a command of the example is meant for."""

from collections.abc import Mapping

from incident_pipelines.example.settings import process_environment
from incident_pipelines.stack.environment import DATABASE_VARIABLES, KAFKA_VARIABLE
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stack.state import StackState


def command_environment() -> Mapping[str, str]:
    """Return this process's environment, with the addresses of the local stack where it names none."""
    environment = process_environment()
    if all(environment.get(name) for name in (*DATABASE_VARIABLES.values(), KAFKA_VARIABLE)):
        return environment
    home = Home.from_environment()
    if StackState.load(home) is None:
        return environment
    return {**Stack(home).environment("owner"), **environment}
