"""Cases that are paid for and unfinished: how they are found and completed; the model of ``salvage/*.yaml``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from incident_pipelines.core.declared import Declared, Duration, FileName, Identifier, parse_declared
from incident_pipelines.core.documents import Document, Path
from incident_pipelines.core.reviewed_select import outputs_of

CANDIDATE_COLUMNS = ("key", "amount", "currency", "since")
KEY = "{key}"

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]
CallPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9_./-]*\{key\}[A-Za-z0-9_./-]*$")]
State = Literal["intended", "completed", "refused", "unanswered"]


class Select(Declared):
    """A reviewed SELECT in ``sql/salvage/`` on a source."""

    source: Identifier
    sql: FileName


class Outreach(Select):
    """What a customer can be reached by: columns beside ``key``, of the keys in ``:keys``.

    Args:
        personal: columns that are masked unless a person asks for them.
    """

    personal: tuple[Identifier, ...] = ()


class Call(Declared):
    """The application's own idempotent call that completes a case.

    Args:
        url: environment variable with the service's address.
        path: with ``{key}`` in it.
        timeout: after which a call counts as not answered, whatever the service does with it.
    """

    url: Variable
    method: Literal["POST", "PUT"] = "POST"
    path: CallPath
    timeout: Duration = timedelta(seconds=10)


class Salvage(Declared):
    """One kind of unfinished case.

    Args:
        candidates: returns key, amount, currency and since of what was paid for between ``:since`` and ``:due``.
        finished: returns the key of those among ``:keys`` that need nothing more.
        grace: how long a case may take by itself.
        lookback: how far back candidates are looked for.
    """

    name: Identifier
    description: str = ""
    owner: str = ""
    candidates: Select
    finished: Select
    call: Call
    outreach: Outreach | None = None
    grace: Duration = timedelta(minutes=15)
    lookback: Duration = timedelta(days=14)


@dataclass(frozen=True)
class Salvages:
    """What was read from the files.

    Args:
        declared: by name.
        sql: text of each file in ``sql/salvage/``, by file name.
    """

    declared: Mapping[str, Salvage] = field(default_factory=dict[str, Salvage])
    sql: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Candidate:
    """A case that was paid for and is not finished.

    Args:
        since: when it was paid for; aware.
    """

    key: str
    amount: Decimal
    currency: str
    since: datetime


def parse_salvage(name: str, text: str) -> tuple[Salvage, Document]:
    """Parse one declaration; arguments, result and errors as of `parse_declared`."""
    return parse_declared(Salvage, name, text)


def build_salvages(
    declared: Iterable[tuple[Salvage, Document]], sql: Mapping[str, str], sources: Mapping[str, str]
) -> Salvages:
    """Check declarations against each other, the sources of the catalog and the SELECTs they name.

    Raises:
        InvalidDocument: something does not exist, is there twice or does not fit; the message names file and line.
    """
    found: dict[str, Salvage] = {}
    for one, document in declared:
        if one.name in found:
            raise document.error(("name",), f"{one.name!r} is declared already")
        _check(document, ("candidates",), one.candidates, CANDIDATE_COLUMNS, (":since", ":due"), sql, sources)
        _check(document, ("finished",), one.finished, ("key",), (":keys",), sql, sources)
        if one.outreach:
            columns = ("key", *one.outreach.personal)
            _check(document, ("outreach",), one.outreach, columns, (":keys",), sql, sources)
        found[one.name] = one
    return Salvages(found, sql)


def totals(candidates: Iterable[Candidate]) -> dict[str, tuple[int, Decimal]]:
    """Return number and money of candidates by currency."""
    found: dict[str, tuple[int, Decimal]] = {}
    for one in candidates:
        count, money = found.get(one.currency, (0, Decimal()))
        found[one.currency] = (count + 1, money + one.amount)
    return dict(sorted(found.items()))


def state_of(status: int | None) -> State:
    """Return what an answer means: done, never, or not known and to be asked again.

    Args:
        status: HTTP status; None where there was no answer.
    """
    if status is not None and 200 <= status < 300:
        return "completed"
    # Who is not let in, or is sent elsewhere, has not been told anything about the case.
    refused = status is not None and 400 <= status < 500 and status not in (401, 403, 408, 425, 429)
    return "refused" if refused else "unanswered"


def _check(
    document: Document,
    path: Path,
    select: Select,
    needed: tuple[str, ...],
    binds: tuple[str, ...],
    sql: Mapping[str, str],
    sources: Mapping[str, str],
) -> None:
    if select.source not in sources:
        known = ", ".join(sources)
        raise document.error((*path, "source"), f"source {select.source!r} is not in catalog.yaml; one of {known}")
    file = f"sql/salvage/{select.sql}"
    if select.sql not in sql:
        raise document.error((*path, "sql"), f"{file} is missing")
    missing = sorted(set(needed) - outputs_of(file, sql[select.sql]))
    if missing:
        raise document.error((*path, "sql"), f"{select.sql} must return {', '.join(needed)}; {missing[0]} is missing")
    for bind in binds:
        if bind not in sql[select.sql]:
            raise document.error((*path, "sql"), f"{select.sql} must select by {' and '.join(binds)}")
