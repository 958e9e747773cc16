"""Prints a trace for a person: a table by stage, the rows at both ends, and the verdict."""

import json
from datetime import UTC, datetime

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from incident_pipelines.core.masking import printable
from incident_pipelines.core.trace import Sighting, Trace

_WIDTH = 180  # one line for each sighting; a narrower terminal wraps lines and leaves cells whole


def print_trace(trace: Trace) -> None:
    """Print a trace; everything in it is text, never markup."""
    console = Console(width=max(Console().width, _WIDTH))
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
    for column in ("stage", "time (UTC)", "place", "type", "status", "delay"):
        table.add_column(column, no_wrap=True)
    stage = ""
    for sighting in trace.sightings:
        if stage and sighting.stage != stage:
            table.add_section()
        table.add_row(
            Text(sighting.stage if sighting.stage != stage else ""),
            Text(_time(sighting.at)),
            Text(sighting.place),
            Text(sighting.type or ""),
            Text(sighting.status, style="red" if sighting.problem else ""),
            Text(_delay(sighting)),
        )
        stage = sighting.stage
    for name in trace.unavailable:
        table.add_row(Text(name), "", "", "", Text("unavailable", style="red"), "")
    console.print(table)
    for sighting in trace.sightings:
        if sighting.stage in ("source", "marts") or (sighting.stage == "landing" and sighting.problem):
            console.print(Text(f"{sighting.place}: {json.dumps(sighting.values, ensure_ascii=False)}"), soft_wrap=True)
    for reason in trace.unavailable.values():
        console.print(Text(f"unavailable: {printable(reason)}"), soft_wrap=True)
    for note in trace.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    console.print(Text(trace.verdict, style="bold green" if trace.complete else "bold red"), soft_wrap=True)


def _time(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def _delay(sighting: Sighting) -> str:
    seconds = sighting.delay_seconds
    if seconds is None:
        return ""
    sign = "≤ " if sighting.delay_is_bound else "+" if seconds >= 0 else ""
    if abs(seconds) < 120:
        return f"{sign}{seconds:.3f} s"
    return f"{sign}{seconds / 60:.1f} min" if abs(seconds) < 7_200 else f"{sign}{seconds / 3600:.1f} h"
