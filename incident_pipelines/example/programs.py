"""What the supervisor runs for the example; entry point of group `incident_pipelines.stack_programs`."""

import sys
from collections.abc import Sequence

from incident_pipelines.stack.programs import Program


def programs() -> Sequence[Program]:
    """Return the two processes of the live service, billing first."""
    command = (sys.executable, "-m", "incident_pipelines.example.service")
    return (
        Program("example-billing", (*command, "billing"), role="billing_service"),
        Program("example-app", (*command, "app"), role="app_service"),
    )
