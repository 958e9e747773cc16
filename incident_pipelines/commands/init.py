"""``incident-pipelines init DIR``: a first catalog of one's own tables and topics.

Like the rest of the command line it imports what it needs when it runs.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from incident_pipelines.stages.start_catalog import WantedTable, WantedTopic

_TABLE = "VARIABLE::[SCHEMA.]TABLE[::CHANGED[::CREATED]]"
_TOPIC = "TOPIC::FILE"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where it is written: a new or an empty folder.")],
    name: Annotated[str | None, typer.Option(help="Of the catalog; that of the folder by default.")] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_TABLE,
            help="Draft the contract of a table: the environment variable with the SQLAlchemy URL of its database, its "
            "name, the column that moves with each change of a row, the one that decides its hour. May be repeated.",
        ),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_TOPIC,
            help="Draft the contract of a topic from a file with one JSON event a line. May be repeated.",
        ),
    ] = None,
) -> None:
    """Write a first catalog of your own tables and topics into an empty folder."""
    from incident_pipelines.core.contracts.draft import dataset_name
    from incident_pipelines.stages.start_catalog import start_catalog

    tables = [_wanted_table(text) for text in table or ()]
    topics = [_wanted_topic(text) for text in topic or ()]
    named = name or dataset_name(folder.expanduser().resolve().name)
    started = start_catalog(folder, named, tables, topics, os.environ, datetime.now(UTC))
    typer.echo(f"{started.folder} holds the catalog {named!r}:")
    for file in started.files:
        typer.echo(f"  {file}")
    typer.echo(f"Next: look at what is marked TO FILL IN, then go on as {started.folder / 'README.md'} says.")


def _wanted_table(text: str) -> "WantedTable":
    from incident_pipelines.stages.start_catalog import WantedTable

    parts = text.split("::")
    if not 2 <= len(parts) <= 4 or not all(parts):
        raise IncidentPipelinesError(f"--table {text!r}: {_TABLE} is expected, like SHOP_DATABASE_URL::public.orders")
    variable, table = parts[:2]
    if not variable.replace("_", "").isalnum():
        # Somebody may have given the URL itself, with its password.
        raise IncidentPipelinesError(
            "--table names the environment variable that holds the URL, and not the URL: put it into one, like "
            "SHOP_DATABASE_URL, then --table SHOP_DATABASE_URL::public.orders"
        )
    schema, _, table = table.rpartition(".")
    return WantedTable(variable, schema or None, table, *parts[2:])


def _wanted_topic(text: str) -> "WantedTopic":
    from incident_pipelines.stages.start_catalog import WantedTopic

    topic, separator, file = text.partition("::")
    if not (topic and separator and file):
        raise IncidentPipelinesError(f"--topic {text!r}: {_TOPIC} is expected, like orders::sample.jsonl")
    return WantedTopic(topic, Path(file))
