"""A manual correction: one reviewed file with a SELECT that returns what is to be appended to the landing log."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from incident_pipelines.core.contracts.model import ChangeTopic, Landed, RowsContract, TableSource
from incident_pipelines.core.errors import IncidentPipelinesError, InvalidDocument
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE
from incident_pipelines.core.reviewed_select import outputs_of

MAX_ROWS = 1_000
"""Of one file, unless the person who applies it names another number."""

Action = Literal["append", "delete"]

_HEADER = re.compile(r"^--\s*(author|reason|source|action)\s*:\s*(.*?)\s*$")


class CorrectionRefused(IncidentPipelinesError):
    """A correction was not applied; nothing was appended."""


@dataclass(frozen=True)
class Correction:
    """A correction as its file says it.

    Args:
        file: name of the file.
        author: who wrote it; somebody else has to apply it.
        source: where the SELECT runs: a source of the catalog, or the warehouse.
        action: whether its rows are appended, or the rows of their keys removed.
        sql: the SELECT.
        columns: what it returns, in lower case.
        digest: SHA-256 of the file.
    """

    file: str
    author: str
    reason: str
    source: str
    action: Action
    sql: str
    columns: frozenset[str]
    digest: str

    @property
    def is_messages(self) -> bool:
        """Whether it returns whole messages, and not the columns of the contract."""
        return "value" in self.columns and self.columns <= {"key", "value"}


def parse_correction(file: str, text: str, contract: Landed) -> Correction:
    """Read a correction and check what it returns against the contract.

    The comments it begins with are ``-- author: NAME``, ``-- reason: TEXT`` and, where the SELECT does not run in the
    warehouse or its rows are to be removed, ``-- source: NAME`` and ``-- action: delete``.

    Raises:
        InvalidDocument: it does not say what it has to; the message starts with file and line.
    """
    header: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("--"):
            break
        if found := _HEADER.match(line):
            if found[1] in header:
                raise InvalidDocument(f"{file}:{number}: {found[1]} is said twice")
            header[found[1]] = found[2]
    for name in ("author", "reason"):
        if not header.get(name):
            raise InvalidDocument(f"{file}:1: a comment `-- {name}: …` is expected at the top")
    action = header.get("action", "append")
    if action not in ("append", "delete"):
        raise InvalidDocument(f"{file}:1: action {action!r} is not known; append or delete")
    columns = outputs_of(file, text)
    correction = Correction(
        file,
        header["author"],
        header["reason"],
        header.get("source", WAREHOUSE),
        action,
        text.strip().rstrip(";"),
        columns,
        hashlib.sha256(text.encode()).hexdigest(),
    )
    _check_columns(correction, contract)
    return correction


def check_approver(correction: Correction, name: str) -> None:
    """Check that whoever applies a correction has not written it.

    Raises:
        CorrectionRefused: it is the author, or nobody.
    """
    if not name.strip() or _plain(name) == _plain(correction.author):
        raise CorrectionRefused(
            f"{correction.file} was written by {correction.author}: a second person has to apply it, with --as NAME"
        )


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _check_columns(correction: Correction, contract: Landed) -> None:
    file, names = correction.file, correction.columns
    if correction.action == "delete":
        if not isinstance(contract, RowsContract) or not isinstance(contract.origin, TableSource):
            raise InvalidDocument(
                f"{file}:1: {contract.name} is not read from a table: an event that has happened is not removed, "
                "append one that corrects it"
            )
        expected = {*contract.primary_key, "reason"}
        if set(names) != expected:
            raise InvalidDocument(f"{file}:1: a delete returns {', '.join(sorted(expected))} and nothing else")
        return
    if correction.is_messages:
        return
    if isinstance(contract, RowsContract) and isinstance(contract.origin, ChangeTopic):
        raise InvalidDocument(f"{file}:1: {contract.name} takes change envelopes: return key and value")
    known = {column.name for column in contract.columns}
    needed = {column.name for column in contract.columns if column.required}
    if unknown := sorted(names - known):
        raise InvalidDocument(
            f"{file}:1: {', '.join(unknown)} is no column of {contract.name}; its columns, or key and value"
        )
    if missing := sorted(needed - names):
        raise InvalidDocument(f"{file}:1: {', '.join(missing)} is missing, which the contract requires")
