"""``incident-pipelines incident …``: lists and shows incidents, and lets a person act on them at any time.

Like the rest of the command line it imports what it needs when it runs.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from incident_pipelines.commands.addresses import addresses, control_database
from incident_pipelines.commands.arguments import As, AsJson, absolute, incident_number, instant, now, person
from incident_pipelines.core.errors import IncidentPipelinesError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from incident_pipelines.core.catalog import Catalog
    from incident_pipelines.core.incidents.incident import Incident
    from incident_pipelines.core.incidents.severity import IncidentSeverity
    from incident_pipelines.core.windows import TimeWindow
    from incident_pipelines.stages.incidents.pages import IncidentPage

incident = typer.Typer(
    name="incident",
    help="Incidents: what happened, what is done about it, and what you may do.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(metavar="INCIDENT", help="Like INC-7, or 7.")]
Because = Annotated[str, typer.Option("--because", metavar="TEXT", help="Why; it goes into the timeline.")]
OWNER = "incident command"
Choice = TypeVar("Choice", bound=str)


@incident.command("list")
def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Also resolved and reviewed ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents, the gravest first."""
    from incident_pipelines.commands.incident_json import incident_json
    from incident_pipelines.commands.incident_tables import print_incidents
    from incident_pipelines.core.incidents.response_times import mean_times
    from incident_pipelines.stages.incidents.pages import listed_incidents

    with _opened() as (catalog, control):
        known = listed_incidents(control)
    found = [one for one in known if everything or one.is_open]
    if as_json:
        typer.echo(json.dumps([incident_json(one) for one in found], indent=2))
    else:
        print_incidents(found, mean_times(known), catalog.mode, now())


@incident.command("show")
def show_incident(incident_id: Id, as_json: AsJson = False) -> None:
    """Answer what data, who is affected, since when, still going on, what it costs; exit 1: timeline tampered with."""
    from incident_pipelines.commands.incident_json import page_json
    from incident_pipelines.commands.incident_tables import print_page

    page = _page(incident_id)
    if as_json:
        typer.echo(json.dumps(page_json(page), indent=2))
    else:
        print_page(page)
    if page.tampered:
        raise typer.Exit(1)


@incident.command("open")
def open_incident(
    incident_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Like data_loss, corruption, breach.")],
    title: Annotated[str, typer.Option(metavar="TEXT", help="What is wrong, in one line.")],
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="NAME", help="What is affected; may be repeated.")
    ] = None,
    severity: Annotated[
        str | None, typer.Option(metavar="P0|P1|P2|P3", help="What you think; it may be higher.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it began: 2026-11-01T13:05, or 90m, 3h, 2d ago.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="START/END", help="Of the data: 2026-11-01T13/2026-11-01T15, UTC.")
    ] = None,
    decisions: Annotated[bool, typer.Option("--decisions-affected", help="Somebody decides on wrong data.")] = False,
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Open an incident by hand."""
    from incident_pipelines.core.incidents.incident import INCIDENT_TYPES
    from incident_pipelines.stages.incidents import by_hand

    opened_at = now()
    report = by_hand.Report(
        type=_one_of(incident_type, INCIDENT_TYPES, "--type"),
        title=title,
        datasets=tuple(datasets or ()),
        severity=_severity(severity) if severity is not None else None,
        since=instant(since, opened_at) if since else None,
        window=_window(window) if window else None,
        decisions_affected=decisions,
    )
    with _opened() as (catalog, control):
        opened = by_hand.open_incident(control, catalog, report, person(as_name), opened_at)
    _told(opened, f"{opened.incident_id} opened as {opened.severity}", as_json)


@incident.command("ack")
def acknowledge(incident_id: Id, as_name: As = None, as_json: AsJson = False) -> None:
    """Take an incident on; the first person to do so is its commander."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.acknowledge(control, incident_number(incident_id), person(as_name), now())
    at = after.acknowledged_at or after.detected_at
    said = f"{after.incident_id} acknowledged by {after.acknowledged_by} at {at:%Y-%m-%d %H:%M:%S} UTC"
    _told(after, f"{said}; commander: {after.commander}", as_json)


@incident.command("note")
def note(
    incident_id: Id,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you found or did.")],
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Write a note into the timeline."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.note(control, incident_number(incident_id), text, person(as_name), now())
    _told(after, f"{after.incident_id}: noted as entry {after.entries}", as_json)


@incident.command("plan")
def show_plan(incident_id: Id, as_json: AsJson = False) -> None:
    """Show the plan that was made last; changes nothing. Exit 1: there is none yet."""
    from incident_pipelines.commands.incident_json import plan_json
    from incident_pipelines.commands.incident_tables import print_plan

    page = _page(incident_id)
    if as_json:
        typer.echo(json.dumps(plan_json(page), indent=2))
    else:
        print_plan(page)
    if page.plan is None:
        raise typer.Exit(1)


@incident.command("approve")
def approve(
    incident_id: Id,
    digest: Annotated[
        str | None, typer.Option("--plan", metavar="DIGEST", help="The plan you have seen; refused if it changed.")
    ] = None,
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Agree to the plan that was made last."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        plan, after = by_hand.approve(control, incident_number(incident_id), person(as_name), now(), digest)
    _told(after, f"{plan.incident_id}: plan {plan.digest[:12]} approved by {plan.approved_by}", as_json)


@incident.command("stop")
def stop(incident_id: Id, because: Because = "no reason given", as_name: As = None, as_json: AsJson = False) -> None:
    """Forbid the system to act on an incident, whatever it is doing."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.stop(control, incident_number(incident_id), because, person(as_name), now())
    _told(after, f"{after.incident_id} stopped by {after.stopped_by} while {after.state}", as_json)


@incident.command("resume")
def resume(incident_id: Id, as_name: As = None, as_json: AsJson = False) -> None:
    """Let the system act again: on a stopped one where it was, on an escalated one from the beginning."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.resume(control, incident_number(incident_id), person(as_name), now())
    _told(after, f"{after.incident_id} goes on, {after.state}", as_json)


@incident.command("resolve")
def resolve(incident_id: Id, because: Because, as_name: As = None, as_json: AsJson = False) -> None:
    """Close an incident by your word, without proof: a false alarm, or repaired by other means."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.resolve(control, incident_number(incident_id), because, person(as_name), now())
    _told(after, f"{after.incident_id} resolved by hand, not proven by the system", as_json)


@incident.command("action")
def action(
    incident_id: Id,
    add: Annotated[str | None, typer.Option(metavar="TEXT", help="What is to be done.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="WHO", help="Who does it; with --add.")] = None,
    due: Annotated[str | None, typer.Option(metavar="DATE", help="Until when, like 2026-11-30; with --add.")] = None,
    done: Annotated[list[int] | None, typer.Option(metavar="N", help="Number of one that is done.")] = None,
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """List action items, add one, or note that one is done."""
    from incident_pipelines.commands.incident_json import items_json
    from incident_pipelines.commands.incident_tables import print_items
    from incident_pipelines.stages.incidents import by_hand
    from incident_pipelines.stages.incidents.pages import incident_page

    if (owner or due) and add is None:
        raise IncidentPipelinesError("--owner and --due belong to --add TEXT")
    until = _date(due) if due else None
    with _opened() as (catalog, control):
        if add is not None:
            by_hand.add_item(control, incident_number(incident_id), add, owner or "", until, person(as_name), now())
        if done:
            by_hand.finish_items(control, incident_number(incident_id), done, person(as_name), now())
        page = incident_page(control, catalog, incident_number(incident_id), now())
    if as_json:
        typer.echo(json.dumps(items_json(page.items), indent=2))
    else:
        print_items(page.items)


@incident.command("review")
def review(
    incident_id: Id,
    text: Annotated[str, typer.Option("--note", metavar="TEXT", help="What came out of the review.")],
    as_name: As = None,
    as_json: AsJson = False,
) -> None:
    """Close the review of a resolved incident."""
    from incident_pipelines.stages.incidents import by_hand

    with control_database(OWNER) as control:
        after = by_hand.review(control, incident_number(incident_id), text, person(as_name), now())
    _told(after, f"{after.incident_id} reviewed", as_json)


@incident.command("report")
def report(
    incident_id: Id,
    kind: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="status, detected, scoped, plan, recovered, progress, loss, finance, postmortem, …"
        ),
    ] = "status",
    as_json: AsJson = False,
) -> None:
    """Print a report, Markdown, as of now: the status report, or another one that the incident has by now."""
    from incident_pipelines.core.incidents.status_report import status_report
    from incident_pipelines.stages.incidents.pages import incident_page
    from incident_pipelines.stages.reports.publish_reports import live_report

    with _opened() as (catalog, control):
        if kind == "status":
            page = incident_page(control, catalog, incident_number(incident_id), now())
            text = status_report(
                page.incident, page.triage, page.times, page.next_steps, page.entries, page.tampered, page.as_of
            )
        else:
            text = live_report(control, catalog, os.environ, incident_number(incident_id), kind, now()).body
    shown = {"incident_id": incident_number(incident_id), "kind": kind, "markdown": text}
    typer.echo(json.dumps(shown, indent=2) if as_json else text)


@contextmanager
def _opened() -> "Iterator[tuple[Catalog, Engine]]":
    """Give the catalog and an engine of the control database.

    For what shows or opens something: who stops it must not need a catalog that somebody may have broken.
    """
    from incident_pipelines.adapters.catalog_files import load_catalog

    with control_database(OWNER) as control:
        yield load_catalog(addresses("CONTROL_DATABASE_URL")), control


def _page(incident_id: str) -> "IncidentPage":
    from incident_pipelines.stages.incidents.pages import incident_page

    with _opened() as (catalog, control):
        return incident_page(control, catalog, incident_number(incident_id), now())


def _told(after: "Incident", text: str, as_json: bool) -> None:
    from incident_pipelines.commands.incident_json import incident_json
    from incident_pipelines.core.masking import printable

    typer.echo(json.dumps(incident_json(after), indent=2) if as_json else printable(text))


def _severity(text: str) -> "IncidentSeverity":
    from incident_pipelines.core.incidents.severity import SEVERITIES

    return _one_of(text, SEVERITIES, "--severity")


def _one_of(text: str, allowed: "tuple[Choice, ...]", option: str) -> "Choice":
    for choice in allowed:
        if choice == text:
            return choice
    raise IncidentPipelinesError(f"{option} {text!r} is not known; one of {', '.join(allowed)}")


def _window(text: str) -> "TimeWindow":
    from incident_pipelines.core.windows import TimeWindow

    start, slash, end = text.partition("/")
    try:
        if not slash:
            raise ValueError("it has no end")
        return TimeWindow(*(absolute(part) for part in (start, end)))
    except ValueError as error:
        raise IncidentPipelinesError(
            f"--window {text!r} is no window ({error}); write it like 2026-11-01T13/2026-11-01T15, UTC"
        ) from error


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise IncidentPipelinesError(f"--due {text!r} is no date; write it like 2026-11-30") from error
