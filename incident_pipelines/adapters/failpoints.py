"""Places where a test may kill the process.

INCIDENT_PIPELINES_FAILPOINTS="land.before_commit=3" kills it at the third pass; several are separated by commas.
"""

import os
import signal

ENVIRONMENT_VARIABLE = "INCIDENT_PIPELINES_FAILPOINTS"


def _parse(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        counts[name] = int(count or 1)
    return counts


_remaining = _parse(os.environ.get(ENVIRONMENT_VARIABLE, ""))


def failpoint(name: str) -> None:
    """Die here by SIGKILL if the environment says so; nothing otherwise."""
    if not _remaining or name not in _remaining:
        return
    _remaining[name] -= 1
    if _remaining[name] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
