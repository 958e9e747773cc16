"""Dagster's own processes as `up` runs them: code server, webserver, daemon; and its GraphQL as the UI speaks it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from incident_pipelines_tests.landing_tools import wait_for

_REPOSITORY = Path(__file__).resolve().parents[2]

LAUNCH_BACKFILL = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message stack }
  }
}
"""
BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } }
    ... on PythonError { message }
  }
}
"""
LOCATION = """
{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename
  ... on PythonError { message } } } } } }
"""


def backfill_parameters(keys: Sequence[Sequence[str]], partitions: Sequence[str]) -> dict[str, Any]:
    """Return what the UI's dialog sends for assets and partitions."""
    return {
        "backfillParams": {
            "assetSelection": [{"path": list(key)} for key in keys],
            "partitionNames": list(partitions),
            "fromFailure": False,
            "tags": [],
        }
    }


class DagsterServer:
    """GraphQL of a running webserver."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"

    def query(self, text: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the data of the answer; an error of GraphQL fails the test."""
        body = json.dumps({"query": text, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
        assert "errors" not in found, found["errors"]
        return found["data"]

    def is_ready(self) -> bool:
        """Whether the code location is loaded."""
        try:
            entries = self.query(LOCATION)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return bool(entries) and all(
            entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
            for entry in entries
        )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def dagster_processes(home: Path, variables: Mapping[str, str]) -> Iterator[DagsterServer]:
    """Run code server, webserver and daemon on one instance until the block ends.

    Args:
        home: DAGSTER_HOME; gets the repository's dagster.yaml.
        variables: addresses, and DAGSTER_POSTGRES_URL.
    """
    home.mkdir(exist_ok=True)
    shutil.copy(_REPOSITORY / "dagster.yaml", home / "dagster.yaml")
    code, web = free_port(), free_port()
    (home / "workspace.yaml").write_text(
        f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {code}, location_name: incident_pipelines}}}}]\n",
        encoding="utf-8",
    )
    environment = {**os.environ, **variables, "DAGSTER_HOME": str(home)}
    workspace = ["-w", str(home / "workspace.yaml")]
    with ExitStack() as running:
        for name, command in {
            "code": [
                "dagster",
                "api",
                "grpc",
                "-h",
                "127.0.0.1",
                "-p",
                str(code),
                "-m",
                "incident_pipelines.definitions",
            ],
            "webserver": ["dagster_webserver", "-h", "127.0.0.1", "-p", str(web), *workspace],
            "daemon": ["dagster._daemon", "run", *workspace],
        }.items():
            running.enter_context(_process([sys.executable, "-m", *command], environment, home / f"{name}.log"))
        server = DagsterServer(web)
        wait_for(server.is_ready, f"the code location loads; logs are in {home}", 90)
        yield server


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
