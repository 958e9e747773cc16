"""What the models of the catalog's declarations share: their base, their small types, and errors with file and line."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from incident_pipelines.core.documents import Document, parse_document

_DURATION = re.compile(r"(\d{1,6})\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _as_duration(value: object) -> timedelta:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a duration is expected, like 30s, 10m, 2h or 1d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,80}\.sql$")]
Duration = Annotated[timedelta, BeforeValidator(_as_duration)]


class Declared(BaseModel):
    """A part of a declaration: what it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=Declared)


def parse_declared(model: type[_Model], name: str, text: str) -> tuple[_Model, Document]:
    """Parse one declaration.

    Args:
        name: file name for messages.
        text: YAML.

    Returns:
        It, and the document that knows the lines.

    Raises:
        InvalidDocument: it does not say what it has to; the message names file and line.
    """
    document = parse_document(name, text)
    try:
        return model.model_validate(document.data), document
    except ValidationError as invalid:
        problem = min(invalid.errors(), key=lambda error: document.line(error["loc"]))
        raise document.error(problem["loc"], _said(cast(Mapping[str, Any], problem))) from None


def _said(problem: Mapping[str, Any]) -> str:
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "not known"
        case "value_error":
            return str(problem["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"{problem['input']!r} must match {problem['ctx']['pattern']}"
        case "too_short":
            return "must not be empty"
        case _:
            return str(problem["msg"]).lower()
