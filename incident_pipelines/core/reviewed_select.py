"""What a reviewed SELECT of the catalog returns."""

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.expressions import Query

from incident_pipelines.core.errors import InvalidDocument


def outputs_of(file: str, text: str) -> frozenset[str]:
    """Return the names of the columns of one SELECT, in lower case.

    Args:
        file: path below the catalog's SQL, for messages.

    Raises:
        InvalidDocument: it is no single SELECT, or does not name its columns.
    """
    try:
        statements = sqlglot.parse(text, read="postgres")
    except SqlglotError as error:
        raise InvalidDocument(f"{file}:1: {str(error).splitlines()[0]}") from error
    if len(statements) != 1 or not isinstance(statements[0], Query):
        raise InvalidDocument(f"{file}:1: one SELECT is expected")
    names = [name.lower() for name in statements[0].named_selects]
    if "*" in names:
        raise InvalidDocument(f"{file}:1: columns are to be named; * may change any day")
    return frozenset(names)
