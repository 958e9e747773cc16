"""Runs the command line in this process."""

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from incident_pipelines.cli import main


def run(variables: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run `incident-pipelines …` where nobody sits; return exit code, output, errors.

    Args:
        variables: of its environment; of those around the tests it gets all but the project's own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INCIDENT_PIPELINES_")}
    output, errors = StringIO(), StringIO()
    with (
        patch.dict(os.environ, {**kept, **variables}, clear=True),
        patch.object(sys, "argv", ["incident-pipelines", *arguments]),
        patch.object(sys, "stdin", StringIO()),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            main()
            code = 0
        except SystemExit as exited:
            code = int(exited.code or 0)
    return code, output.getvalue(), errors.getvalue()
