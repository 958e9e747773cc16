"""One text for each row, equal only for equal rows, out of texts for each column: what engines of two kinds hash."""

from collections.abc import Callable, Sequence

from incident_pipelines.adapters.databases.comparison.table import PairedColumn, comparable

SEPARATOR = "|"

EXACT_INSTANTS = ("1850-01-01", "2150-01-01")
"""Between these a double of seconds since 1970 is exact to the microsecond, and is an instant's text."""
NO_INSTANT = "~"
"""Stands before the text of what is compared as an instant and is none of these."""

_FREE = frozenset({"text", "json"})


def is_free(column: PairedColumn) -> bool:
    """Whether the column's text may hold any character, the separator too."""
    families = {side.family for side in (column.own, column.other) if side is not None}
    return column.kind in _FREE or not families.isdisjoint({"text", "other", "json"})


def marked(column: PairedColumn, text: str, side: str) -> str:
    """Return the text, marked by side where equal texts of both sides would not mean equal values."""
    return text if comparable(column) else f"'{side}:' || {text}"


def in_text_order(columns: Sequence[PairedColumn]) -> list[PairedColumn]:
    """Return columns as they follow each other in a row's text: free ones at the end.

    The last one needs no length then, only something before it that tells an empty text from NULL.
    """
    return sorted(columns, key=is_free)


def row_text(columns: Sequence[PairedColumn], text: Callable[[PairedColumn, str], str]) -> str:
    """Return the SQL of a row's text: free texts with their length, NULL as nothing, which no value is.

    Args:
        text: gives the SQL of a constant followed by a column's canonical text; NULL for NULL. The text itself is not
            empty unless it is free.
    """
    parts: list[str] = []
    ordered = in_text_order(columns)
    for number, column in enumerate(ordered):
        separator = SEPARATOR if number else ""
        if not is_free(column):
            sql = text(column, separator)
        elif column is ordered[-1]:
            sql = text(column, f"{separator}:")
        else:
            sql = f"'{separator}' || length({text(column, '')}) || {text(column, ':')}"
        nullable = column.own is None or column.own.nullable
        parts.append(f"coalesce({sql}, '{separator}')" if nullable else sql)
    return " || ".join(parts)


def after(before: str, text: str) -> str:
    """Return the SQL of a constant followed by a text."""
    return f"('{before}' || {text})" if before else text


def flag_text(before: str, flag: str) -> str:
    """Return the SQL of a constant followed by 1 or 0; NULL for NULL."""
    return f"CASE WHEN {flag} THEN '{before}1' WHEN NOT {flag} THEN '{before}0' END"
