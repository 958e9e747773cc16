"""Dagster in the stack: its instance folder, its workspace, and whether it is ready."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home, shipped_file, write_atomically
from incident_pipelines.stack.ports import HOST

CODE_LOCATION = "incident_pipelines"
_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
_RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "%s") { __typename } }'
_LAUNCH = """mutation($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename ... on PythonError { message } ... on PipelineNotFoundError { message } } }"""


def program(name: str) -> str:
    """The path of one of Dagster's programs, beside the running interpreter."""
    return str(Path(sys.executable).with_name(name))


def workspace_file(home: Home) -> Path:
    """The workspace that webserver and daemon read."""
    return home.dagster / "workspace.yaml"


def prepare_files(home: Home, code_port: int) -> None:
    """Write the instance's and the workspace's configuration into DAGSTER_HOME."""
    shutil.copyfile(shipped_file("dagster.yaml"), home.dagster / "dagster.yaml")
    server = {"host": HOST, "port": code_port, "location_name": CODE_LOCATION}
    # JSON is YAML.
    write_atomically(workspace_file(home), json.dumps({"load_from": [{"grpc_server": server}]}) + "\n")


def storage_version() -> str:
    """Which release's tables the storage must have."""
    return version("dagster")


def migrate_storage(environment: Mapping[str, str]) -> None:
    """Create or migrate Dagster's tables, before its processes would do it all at the same time.

    Args:
        environment: The variables of the role `publisher`.

    Raises:
        StackError: It failed.
    """
    command = (program("dagster"), "instance", "migrate")
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        raise StackError(f"Dagster's storage cannot be prepared: {(done.stderr or done.stdout).strip()[-2000:]}")


def location_problem(port: int, *, reload: bool) -> str | None:
    """Why the code location is not available in the UI, or None when it is.

    Args:
        port: The webserver's.
        reload: Whether to have a location loaded again that failed.

    Returns:
        An empty text while it is on its way.
    """
    try:
        answer = _query(port, _LOCATIONS)
        entries = answer["data"]["workspaceOrError"]["locationEntries"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    for entry in entries:
        if entry["name"] != CODE_LOCATION or entry["loadStatus"] != "LOADED":
            continue
        loaded = entry["locationOrLoadError"] or {}
        if loaded.get("__typename") != "PythonError":
            return None
        if reload:
            _query(port, _RELOAD % CODE_LOCATION)
        return str(loaded.get("message", "")).strip() or "unknown"
    return ""


def launch_job(port: int, job: str) -> None:
    """Launch a job through the webserver.

    Args:
        port: The webserver's.

    Raises:
        StackError: Dagster refuses.
    """
    selector = {
        "repositoryLocationName": CODE_LOCATION,
        "repositoryName": "__repository__",
        "jobName": job,
    }
    try:
        result = _query(port, _LAUNCH, {"selector": selector})["data"]["launchRun"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackError(f"{job} cannot be launched: {error!r}") from error
    if result["__typename"] != "LaunchRunSuccess":
        raise StackError(f"{job} cannot be launched: {result.get('message', result['__typename'])}")


def _query(port: int, query: str, variables: Mapping[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"http://{HOST}:{port}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    # The user's proxy settings are not for the local machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response)
