"""Names that become SQL identifiers."""

import re

from incident_pipelines.core.errors import InvalidIdentifier

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def identifier(name: str, where: str = "name") -> str:
    """Return the name if it is a plain SQL identifier.

    Args:
        name: candidate, at most 63 characters (PostgreSQL's limit).
        where: what the name is for, for the message.

    Raises:
        InvalidIdentifier: the name does not match ``[a-z_][a-z0-9_]{0,62}``.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise InvalidIdentifier(
            f"{where} {name!r} cannot be used: it must match [a-z_][a-z0-9_]{{0,62}} (lower case, no quotes, no dots)"
        )
    return name


def quoted(*parts: str) -> str:
    """Return checked names as one quoted SQL reference: ``quoted("raw", "payments")`` is ``"raw"."payments"``."""
    return ".".join(f'"{identifier(part)}"' for part in parts)
