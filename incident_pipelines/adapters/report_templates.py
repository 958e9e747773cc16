"""Reads report templates: those that ship, and those of a folder of one's own."""

from collections.abc import Mapping
from pathlib import Path

from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.reports.texts import TEMPLATES, Templates

TEMPLATES_VARIABLE = "INCIDENT_PIPELINES_REPORT_TEMPLATES"
_SHIPPED = Path(__file__).parent.parent / "report_templates"
_LARGEST = 100_000


def read_templates(environment: Mapping[str, str]) -> Templates:
    """Return the templates; a file of one's own takes the place of the shipped one of its name.

    Raises:
        IncidentPipelinesError: the folder that the environment names cannot be read.
    """
    names = list(TEMPLATES.values())
    shipped = {name: (_SHIPPED / f"{name}.md").read_text(encoding="utf-8") for name in names}
    own: dict[str, str] = {}
    folder = environment.get(TEMPLATES_VARIABLE)
    for path in (Path(folder) / f"{name}.md" for name in names) if folder else ():
        try:
            if path.is_file():
                own[path.stem] = path.read_bytes()[:_LARGEST].decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise IncidentPipelinesError(f"{TEMPLATES_VARIABLE}: {path} cannot be read: {error}") from error
    if folder and not Path(folder).is_dir():
        raise IncidentPipelinesError(f"{TEMPLATES_VARIABLE}: {folder} is no folder")
    return Templates(shipped, own)
