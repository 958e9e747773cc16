"""Takes rights on the warehouse's tables away from others, and gives back what was taken; the database does both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.identifiers import identifier


@dataclass(frozen=True)
class Revocation:
    """What a key has taken away.

    Args:
        privileges: one text for each, like ``DELETE on raw.orders from ana``.
        refused: why nothing may be taken from the role; None where it may.
        still_writes: the role can write to the table nevertheless, through another role or as PUBLIC.
    """

    privileges: tuple[str, ...]
    refused: str | None = None
    still_writes: bool = False


def revoke_writes(connection: Connection, key: str, role: str, table: str) -> Revocation:
    """Take from a role the right to change a table, once the transaction commits.

    Args:
        key: of the action that wants it; the same one again takes no more and returns the same.
        role: any name; one that may not be touched is refused by the database, which knows.
        table: ``raw.orders``.

    Raises:
        InvalidIdentifier: no such name can be a table's.
    """
    values = {"key": key, "role": role, "table_name": _table(table)}
    return _revocation(connection.execute(query("revoke_writes"), values).scalar_one())


def revoke_access(connection: Connection, key: str, tables: Iterable[str]) -> Revocation:
    """Take all rights on tables from everybody but their owner, superusers and the pipeline's own roles.

    Args:
        key: of the action that wants it; the same one again takes what was granted since as well.

    Raises:
        InvalidIdentifier: no such name can be a table's.
    """
    values = {"key": key, "table_names": sorted({_table(table) for table in tables})}
    return _revocation(connection.execute(query("revoke_access"), values).scalar_one())


def restore_privileges(connection: Connection, key: str) -> tuple[str, ...]:
    """Give back what a key has taken, but what another key wants gone as well; what was given back, in words."""
    return _texts(connection.execute(query("restore_privileges"), {"key": key}).scalar_one(), "to")


def _table(name: str) -> str:
    return ".".join(identifier(part, "table") for part in name.split("."))


def _revocation(outcome: Mapping[str, Any]) -> Revocation:
    return Revocation(_texts(outcome["revoked"], "from"), outcome["refused"], outcome["still_writes"])


def _texts(privileges: Iterable[Mapping[str, str]], preposition: str) -> tuple[str, ...]:
    texts: list[str] = []
    for one in privileges:
        what = f"{one['privilege']} ({one['column']})" if one["column"] else one["privilege"]
        texts.append(f"{what} on {one['table']} {preposition} {one['grantee'] or 'PUBLIC'}")
    return tuple(texts)
