"""Reports as Markdown files, one folder for each incident."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from incident_pipelines.core.errors import IncidentPipelinesError

REPORTS_VARIABLE = "INCIDENT_PIPELINES_REPORTS"
_HOME_VARIABLE = "INCIDENT_PIPELINES_HOME"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}")


def reports_folder(environment: Mapping[str, str]) -> Path:
    """Return where reports are written: INCIDENT_PIPELINES_REPORTS, or `reports` in the stack's home."""
    own = environment.get(REPORTS_VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    return Path(environment.get(_HOME_VARIABLE) or ".local").expanduser().absolute() / "reports"


def write_report(folder: Path, incident_id: str, name: str, text: str) -> Path:
    """Write a report, whole or not at all, in place of an older one, and return its path.

    Raises:
        IncidentPipelinesError: it cannot be written; what was there before stays.
    """
    for part in (incident_id, name):
        if not _NAME.fullmatch(part):
            raise IncidentPipelinesError(f"{part!r} is no name of a report's file")
    path = folder / incident_id / f"{name}.md"
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise IncidentPipelinesError(
            f"report {path} cannot be written: {error.strerror}; free the place, or name another folder in "
            f"{REPORTS_VARIABLE}"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path
