"""What the arguments of several commands mean."""

import getpass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from incident_pipelines.core.incidents.incident import Actor

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who you are; if absent the account of the system.")
]
IncidentOption = Annotated[
    str | None, typer.Option("--incident", metavar="INCIDENT", help="That it is a part of: INC-7.")
]
_AGO = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


def person(as_name: str | None) -> "Actor":
    """Return who gives a command.

    Raises:
        IncidentPipelinesError: the name is empty.
    """
    from incident_pipelines.core.incidents.incident import Actor

    if as_name is not None and not as_name.strip():
        raise IncidentPipelinesError("--as needs a name")
    try:
        account = getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in many containers
        account = "unknown"
    return Actor("person", as_name.strip() if as_name else account, account)


def incident_number(text: str) -> str:
    """Return the id of an incident from how a person writes it, like INC-7, inc-7 or 7.

    Raises:
        IncidentPipelinesError: it is none.
    """
    number = text.strip().upper().removeprefix("INC-")
    if not (number.isascii() and number.isdigit()):
        raise IncidentPipelinesError(f"{text!r} is not the id of an incident; write it like INC-7")
    return f"INC-{int(number[:18])}"


def instant(text: str, as_of: datetime) -> datetime:
    """Return a time, aware, that is given as such or as how long ago.

    Raises:
        IncidentPipelinesError: it is neither.
    """
    count, unit = text[:-1], text[-1:]
    try:
        return as_of - int(count) * _AGO[unit] if unit in _AGO and count.isdigit() else absolute(text)
    except (ValueError, OverflowError) as error:
        raise IncidentPipelinesError(
            f"{text!r} is no time; write it like 2026-11-01T13:05 (UTC), or 90m, 3h, 2d"
        ) from error


def absolute(text: str) -> datetime:
    """Return a time in ISO 8601, aware; in UTC where it names no zone. ValueError if it is none."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
