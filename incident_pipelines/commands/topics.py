"""``incident-pipelines topics``: what the broker keeps for how long, changing it, and the guard over it.

Like the rest of the command line it imports what it needs when it runs.
"""

import json
import sys
from contextlib import contextmanager
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from incident_pipelines.commands.addresses import addresses, control_database
from incident_pipelines.commands.arguments import As, AsJson, now, person
from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from incident_pipelines.core.landing_watch import Watch
    from incident_pipelines.stages.landing.topics import TopicRow

topics = typer.Typer(
    name="topics", help="Topics: how long they keep their records, and the guard over that.", no_args_is_help=True
)

LONGEST_SUSPENSION = timedelta(hours=24)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@topics.command("list")
def list_topics(as_json: AsJson = False) -> None:
    """Show retention, its floor and landing's lag of each topic; exit 1: one needs looking at."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from incident_pipelines.core.retention import duration_text

    rows = _rows()
    if as_json:
        typer.echo(json.dumps([_row_json(row) for row in rows], indent=2))
    else:
        table = Table("topic", "contract", "owner", "consumers", "retention", "floor", "lag", "verdict")
        for row in rows:
            retention = "" if row.settings is None else duration_text(row.settings.retention_ms)
            floor = "none" if row.floor is None else f"{duration_text(row.floor.milliseconds)}: {row.floor.reason}"
            lag = f"{row.lag}, {duration_text(row.lag_time // timedelta(milliseconds=1))}" if row.lag else "0"
            verdict = Text(row.verdict, style="" if row.verdict == "ok" else "red")
            named = (row.topic, row.contract, row.owner, _readers(row), retention, floor, lag)
            table.add_row(*map(Text, named), verdict)
        Console(width=max(Console().width, 120)).print(table)
        for row in rows:
            for note in row.notes:
                typer.echo(f"{row.topic}: {note}", err=True)
    if any(row.verdict != "ok" for row in rows):
        raise typer.Exit(1)


@topics.command("apply")
def apply(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="A topic of the catalog.")],
    retention: Annotated[str, typer.Option(metavar="DURATION", help="Like 7d, 36h, or unlimited.")],
    acknowledge: Annotated[
        list[str] | None, typer.Option(metavar="CONSUMER", help="A consumer who agreed; may be repeated.")
    ] = None,
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Change how long a topic keeps its records: not below its floor, and not without its consumers."""
    from incident_pipelines.core.retention import duration_text
    from incident_pipelines.stages.landing.retention import TopicCommandRefused
    from incident_pipelines.stages.landing.topics import apply_retention, refusal

    wanted = -1 if retention == "unlimited" else _duration(retention, "--retention") // timedelta(milliseconds=1)
    found = {row.topic: row for row in _rows()}
    row = found.get(topic)
    if row is None:
        raise TopicCommandRefused(f"no contract reads topic {topic!r}; one of {', '.join(found) or 'none'}")
    agreed = list(dict.fromkeys(acknowledge or ()))
    before = row.settings.retention_ms if row.settings else 0
    if not as_json:
        typer.echo(
            f"{topic} ({row.contract}, {row.owner}) keeps its records for {duration_text(before)}; "
            f"asked for: {duration_text(wanted)}. Its consumers: {_readers(row) or 'none'}",
            err=True,
        )
    possible = refusal(row, wanted, row.consumers) is None
    if possible and not as_json and sys.stdin.isatty():
        agreed += [name for name in row.consumers if name not in agreed and typer.confirm(f"Does {name} agree?")]
    change = apply_retention(
        addresses("KAFKA_BOOTSTRAP_SERVERS", "CONTROL_DATABASE_URL"), row, wanted, agreed, str(person(as_name)), now()
    )
    if as_json:
        typer.echo(json.dumps({"topic": topic, "before_ms": before, "after_ms": wanted, "change": change}, indent=2))
    elif change is None:
        typer.echo(f"{topic} keeps its records for {duration_text(wanted)} already")
    else:
        typer.echo(f"{topic} now keeps its records for {duration_text(wanted)} (change {change})")


@topics.command("guard")
def guard(
    watch: Annotated[
        str | None, typer.Option(metavar="retention|landing", help="Which watch; to change it: retention if absent.")
    ] = None,
    suspend: Annotated[str | None, typer.Option(metavar="DURATION", help="Be quiet for so long, like 30m.")] = None,
    because: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; with --suspend.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Watch again at once.")] = False,
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Show which watches are suspended, suspend one for a while, or resume it."""
    from incident_pipelines.adapters.stores import suspensions
    from incident_pipelines.core.landing_watch import WATCHES

    chosen: Watch = _watch(watch or "retention")
    if suspend is not None and resume:
        raise IncidentPipelinesError("--suspend and --resume exclude each other")
    if suspend is not None and not (because or "").strip():
        raise IncidentPipelinesError("--suspend needs --because TEXT: somebody will find the watch quiet at night")
    duration = None if suspend is None else _duration(suspend, "--suspend")
    if duration is not None and duration > LONGEST_SUSPENSION:
        raise IncidentPipelinesError(f"--suspend {suspend}: a watch may be quiet for 24h at most")
    with _control() as control:
        as_of = now()
        if duration is not None:
            suspensions.suspend(control, chosen, as_of + duration, str(person(as_name)), (because or "").strip(), as_of)
        elif resume:
            suspensions.resume(control, chosen, str(person(as_name)), as_of)
        quiet = suspensions.suspensions(control, as_of)
    shown = WATCHES if watch is None else (chosen,)
    if as_json:
        states = {
            one: {"suspended": one in quiet}
            | ({"until": quiet[one].until, "by": quiet[one].by, "because": quiet[one].because} if one in quiet else {})
            for one in shown
        }
        typer.echo(json.dumps(states, indent=2, default=lambda value: value.isoformat()))
        return
    for one in shown:
        if one in quiet:
            until = quiet[one].until.astimezone(UTC)
            said = f"suspended until {until:%Y-%m-%d %H:%M:%S} UTC by {quiet[one].by}: {quiet[one].because}"
        else:
            said = "watching"
        typer.echo(_printable(f"{one}: {said}"))


@contextmanager
def _control() -> "Iterator[Connection]":
    from incident_pipelines.adapters.databases.postgres import available

    with control_database("topics command") as control, available("control database"), control.begin() as connection:
        yield connection


def _rows() -> "list[TopicRow]":
    from incident_pipelines.adapters.catalog_files import load_catalog
    from incident_pipelines.stages.landing.topics import topic_rows

    variables = addresses("KAFKA_BOOTSTRAP_SERVERS", "WAREHOUSE_URL")
    return topic_rows(variables, load_catalog(variables), now())


def _row_json(row: "TopicRow") -> dict[str, Any]:
    settings, floor = row.settings, row.floor
    return {
        "topic": row.topic,
        "contract": row.contract,
        "owner": row.owner,
        "consumers": list(row.consumers),
        "groups": list(row.groups),
        "retention_ms": settings and settings.retention_ms,
        "retention_overridden": settings and settings.overridden,
        "retention_bytes": settings and settings.retention_bytes,
        "cleanup_policy": settings and settings.cleanup_policy,
        "floor_ms": floor and floor.milliseconds,
        "floor_reason": floor and floor.reason,
        "lag": row.lag,
        "lag_seconds": round(row.lag_time.total_seconds(), 1),
        "verdict": row.verdict,
        "notes": list(row.notes),
    }


def _readers(row: "TopicRow") -> str:
    return ", ".join((*row.consumers, *(f"group {name}" for name in row.groups)))


def _duration(text: str, option: str) -> timedelta:
    count, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (count.isascii() and count.isdigit()) or not 0 < int(count[:12]) <= 10**7:
        raise IncidentPipelinesError(f"{option} {text!r} is no duration; write it like 30m, 36h, 7d")
    return timedelta(seconds=int(count) * _UNITS[unit])


def _watch(text: str) -> "Watch":
    from incident_pipelines.core.landing_watch import WATCHES

    for watch in WATCHES:
        if watch == text:
            return watch
    raise IncidentPipelinesError(f"--watch {text!r} is not known; one of {', '.join(WATCHES)}")


def _printable(text: str) -> str:
    from incident_pipelines.core.masking import printable

    return printable(text)
