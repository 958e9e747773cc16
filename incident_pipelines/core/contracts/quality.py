"""`quality` of type `sql` of a contract → the reviewed SELECTs that a mart's staged window is checked with."""

import re
from collections.abc import Sequence

from open_data_contract_standard.model import DataQuality

from incident_pipelines.core.contracts.model import QualityQuery
from incident_pipelines.core.documents import Document, Path
from incident_pipelines.core.errors import InvalidIdentifier
from incident_pipelines.core.identifiers import identifier

_FILE = re.compile(r"[a-z_][a-z0-9_]{0,58}\.sql")
_SEVERITIES = {"error": "error", "warning": "warn"}


def quality_queries(document: Document, declared: Sequence[DataQuality]) -> tuple[QualityQuery, ...]:
    """Return what is declared with type `sql`; other types are not for a machine.

    Raises:
        InvalidDocument: something in it cannot be kept; the message names file and line.
    """
    found: list[QualityQuery] = []
    for path, one in _of_sql(declared):
        try:
            name = identifier(one.name or "")
        except InvalidIdentifier as error:
            raise document.error((*path, "name"), str(error)) from error
        if name in [other.name for other in found]:
            raise document.error((*path, "name"), f"{name!r} is declared twice")
        if not _FILE.fullmatch(one.query or ""):
            raise document.error((*path, "query"), "the name of a file under sql/quality is expected: NAME.sql")
        if isinstance(one.mustBe, bool) or one.mustBe != 0:
            raise document.error((*path, "mustBe"), "mustBe: 0 is expected: the SELECT counts what is wrong")
        severity = (one.severity or "error").lower()
        if severity not in _SEVERITIES:
            raise document.error((*path, "severity"), f"{severity!r} is not known; one of {', '.join(_SEVERITIES)}")
        found.append(
            QualityQuery(
                name=name,
                file=one.query or "",
                description=(one.description or f"sql/quality/{one.query} counts nothing.").strip(),
                severity="warn" if severity == "warning" else "error",
            )
        )
    return tuple(found)


def refuse_quality_queries(document: Document, declared: Sequence[DataQuality]) -> None:
    """Refuse them where they would not be run: raw windows are judged by the rules of their columns."""
    for path, _ in _of_sql(declared):
        raise document.error(path, "quality of type sql is for marts")


def _of_sql(declared: Sequence[DataQuality]) -> list[tuple[Path, DataQuality]]:
    return [(("schema", 0, "quality", index), one) for index, one in enumerate(declared) if one.type == "sql"]
