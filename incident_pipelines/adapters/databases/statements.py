"""The fixed SQL statements of the stores, one in a file."""

from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text

_QUERIES = Path(__file__).parent / "queries"


@cache
def query(name: str) -> TextClause:
    """Return a statement from the folder of queries."""
    return text((_QUERIES / f"{name}.sql").read_text(encoding="utf-8"))
