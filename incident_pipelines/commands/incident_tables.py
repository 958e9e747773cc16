"""Prints incidents for a person, in a terminal of 100 columns."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from incident_pipelines.adapters.stores.incidents_reports import StoredReport
from incident_pipelines.adapters.stores.incidents_work import ActionItem
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.response_times import MeanTimes, duration_text
from incident_pipelines.core.incidents.severity import OBLIGATIONS, SEVERITIES, respond_by
from incident_pipelines.core.incidents.timeline import Entry
from incident_pipelines.core.masking import printable
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.recovery.told import plan_lines
from incident_pipelines.core.reports.headline import headline
from incident_pipelines.stages.incidents.pages import IncidentPage

WIDTH = 100
_STYLES = {"P0": "bold red", "P1": "red", "P2": "yellow", "P3": ""}
_LABEL = 16
_SHOWN_SIGNALS = 20


def print_incidents(incidents: Sequence[Incident], means: MeanTimes, mode: Mode, now: datetime) -> None:
    """Print a line for each incident, the gravest first, and the means over all there were below.

    Args:
        incidents: to be shown, in the order in which they were opened.
    """
    console = _console()
    if not incidents:
        console.print(f"no open incidents; mode {mode}{_means(means)}")
        return
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
    for column in ("id", "sev", "state", "age"):
        table.add_column(column, no_wrap=True)
    for column in ("what", "datasets", "acknowledged"):
        table.add_column(column, overflow="fold")
    for one in sorted(incidents, key=lambda one: SEVERITIES.index(one.severity)):
        table.add_row(
            one.incident_id,
            Text(one.severity, style=_STYLES[one.severity]),
            Text(_state(one)),
            duration_text(now - one.detected_at),
            _text(one.title),
            _text(", ".join(one.datasets)),
            Text(*_acknowledged(one, now)),
        )
    console.print(table)
    console.print(f"mode {mode}{_means(means)}")


def print_page(page: IncidentPage) -> None:
    """Print everything about an incident: what to do first, then what is known, then how it came."""
    one = page.incident
    console = _console()
    console.print(
        Text.assemble(
            (one.incident_id, "bold"), "  ", (one.severity, _STYLES[one.severity]), "  ", (_state(one), "bold"), "  "
        ).append_text(_text(one.title))
    )
    console.print(
        _text(
            f"{_words(one.type)}, cause {one.cause}; opened by {one.source.replace('_', ' ')}; "
            f"commander: {one.commander or 'none yet'}; mode {page.mode}"
        )
    )
    console.print(_text(f"{OBLIGATIONS[one.severity].meaning}: {OBLIGATIONS[one.severity].notify}"))
    if page.tampered:
        told = "; ".join(problem.what for problem in page.tampered)
        console.print(Text(f"THE TIMELINE WAS TAMPERED WITH: {told}", style="bold red"))
    grid = _grid()
    for number, step in enumerate(page.next_steps):
        grid.add_row("" if number else Text("Next", style="bold"), _text(step))
    grid.add_row(Text("Runbook", style="bold"), _text("\n".join(page.runbooks)))
    console.print()
    console.print(grid)
    answers = page.triage
    grid = _grid()
    for title, lines in (
        ("What data", answers.what_data),
        ("Who is affected", answers.who_is_affected),
        ("Since when", answers.since_when),
        ("Still going on", answers.still_going_on),
        ("What it costs", answers.what_it_costs),
    ):
        grid.add_row(Text(title, style="bold"), _text("\n".join(lines)))
    if page.loss is not None:
        grid.add_row(Text("Loss", style="bold"), _text(headline(page.loss, page.reported)))
    for time in page.times:
        if time.seconds is not None:
            grid.add_row(Text(time.name.capitalize(), style="bold"), _text(duration_text(time.seconds)))
    console.print()
    console.print(grid)
    if page.signals:
        _print_signals(console, page.signals)
    _print_work(console, page)
    _print_reports(console, page)
    _print_timeline(console, page)


def print_plan(page: IncidentPage) -> None:
    """Print the plan of an incident; if there is none, what the incident is waiting for."""
    console = _console()
    one, plan = page.incident, page.plan
    if plan is None:
        console.print(_text(f"{one.incident_id} has no plan yet; it is {_state(one)}."))
        console.print(_text(f"next: {page.next_steps[-1]}"))
        return
    console.print(_text(f"{one.incident_id}: plan {plan.digest} of {plan.made_at:%Y-%m-%d %H:%M:%S} by {plan.made_by}"))
    if plan.revision != one.revision:
        console.print(Text("More is affected by now than this plan was made for.", style="red"))
    approved = f"approved by {plan.approved_by}" if plan.approved_at else "not approved"
    console.print(_text(f"{approved}; {one.incident_id} is {_state(one)}"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for what, how in plan_lines(plan_of(plan.body)):
        grid.add_row(_text(what), _text(how))
    console.print(grid)


def print_items(items: Sequence[ActionItem]) -> None:
    """Print action items."""
    console = _console()
    if not items:
        console.print("no action items")
        return
    console.print(_items_table(items))


def _print_signals(console: Console, signals: Sequence[RaisedSignal]) -> None:
    """Print signals of one kind and dataset as one, told by the latest."""
    groups: dict[tuple[str, str], list[RaisedSignal]] = {}
    for signal in signals:
        groups.setdefault((signal.kind, signal.dataset), []).append(signal)
    console.print()
    console.print(Text(f"Signals ({len(signals)})", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for (kind, dataset), same in list(groups.items())[:_SHOWN_SIGNALS]:
        first, last = same[0], same[-1]
        many = "" if len(same) == 1 else f" ×{len(same)} until {last.occurred_at:%H:%M:%S}"
        ended = sum(signal.cleared_at is not None for signal in same)
        over = f", {ended} cleared" if ended else ""
        head = f"#{first.signal_id} {last.severity} {kind} in {dataset}{many}{over}"
        grid.add_row(f"{first.occurred_at:%m-%d %H:%M:%S}", _text(f"{head}\n{last.summary}"))
    console.print(grid)
    if len(groups) > _SHOWN_SIGNALS:
        console.print(f"and {len(groups) - _SHOWN_SIGNALS} more kinds and datasets; --json shows all")


def _print_work(console: Console, page: IncidentPage) -> None:
    plan = page.plan
    if plan is not None:
        approved = f"approved by {plan.approved_by}" if plan.approved_at else "not approved"
        console.print()
        console.print(_text(f"Plan {plan.digest[:12]}, {approved}"))
    if page.actions:
        console.print()
        console.print(Text("Actions", style="bold"))
        table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
        for column in ("intended", "what", "state", "tries", "outcome"):
            table.add_column(column, overflow="fold")
        for action in page.actions:
            table.add_row(
                f"{action.intended_at:%H:%M:%S}",
                _text(str(action.target.get("what", action.kind))),
                _text(action.state),
                str(action.attempts),
                _text(str((action.outcome or {}).get("told", ""))),
            )
        console.print(table)
    if page.items:
        console.print()
        console.print(Text("Action items", style="bold"))
        console.print(_items_table(page.items))


def _print_reports(console: Console, page: IncidentPage) -> None:
    if not page.reports:
        return
    folders = dict.fromkeys(str(PurePath(one.path).parent) for one in page.reports if one.path is not None)
    console.print()
    console.print(Text("Reports", style="bold").append_text(_text(f"  {', '.join(folders) or 'not written yet'}")))
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(overflow="fold")
    for one in page.reports:
        grid.add_row(f"{one.made_at:%m-%d %H:%M:%S}", _text(one.name), _text(_sent(one)))
    console.print(grid)


def _sent(one: StoredReport) -> str:
    unwritten = "" if one.path is not None else "NOT WRITTEN; "
    if one.sent_at is None:
        return f"{unwritten}NOT SENT after {one.attempts} attempts" + (f": {one.error}" if one.error else "")
    if not one.addresses:
        return f"{unwritten}sent to nobody: no address is configured"
    return f"{unwritten}sent to {one.addresses} at {one.sent_at:%H:%M:%S}"


def _print_timeline(console: Console, page: IncidentPage) -> None:
    console.print()
    console.print(Text("Timeline (UTC)", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(max_width=26, overflow="fold")
    grid.add_column(overflow="fold")
    for entries in _runs_of_signals(page.entries):
        entry = entries[0]
        text = _told(entry) if len(entries) == 1 else f"{len(entries)} signals joined until {entries[-1].at:%H:%M:%S}"
        grid.add_row(f"{entry.at:%m-%d %H:%M:%S}", _text(entry.actor), _text(text))
    console.print(grid)
    if not page.tampered:
        console.print(
            Text(f"{len(page.entries)} entries, chain whole, head {page.incident.head_hash[:16]}", style="dim")
        )


def _runs_of_signals(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return entries, those of signals that joined one after the other as one."""
    runs: list[list[Entry]] = []
    for entry in entries:
        if runs and entry.kind == "signal_joined" == runs[-1][-1].kind:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _told(entry: Entry) -> str:
    if entry.kind == "signal_joined":  # what it says stands under the signals
        return f"signal {entry.detail.get('signal_id')} ({entry.detail.get('kind')}) joined"
    if entry.state_from is not None and entry.state_to is not None:
        return f"{_words(entry.state_from)} → {_words(entry.state_to)}: {entry.text}"
    return entry.text


def _items_table(items: Sequence[ActionItem]) -> Table:
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
    for column in ("n", "what", "owner", "due", "done"):
        table.add_column(column, overflow="fold")
    for one in items:
        due = "" if one.due is None else f"{one.due:%Y-%m-%d}"
        done = "" if one.done_at is None else f"{one.done_at:%Y-%m-%d} {one.done_by}"
        table.add_row(str(one.item), _text(one.text), _text(one.owner), due, _text(done))
    return table


def _means(means: MeanTimes) -> str:
    return "".join(
        f"; {name} {duration_text(seconds)}"
        for name, seconds in (("MTTD", means.mttd_seconds), ("MTTR", means.mttr_seconds))
        if seconds is not None
    )


def _acknowledged(one: Incident, now: datetime) -> tuple[str, str]:
    if one.acknowledged_at is not None:
        return printable(f"{one.acknowledged_by}, after {duration_text(one.acknowledged_at - one.detected_at)}"), ""
    if not one.is_open:
        return "never", ""
    due = respond_by(one.severity, one.detected_at)
    if due < now:
        return f"OVERDUE {duration_text(now - due)}", "bold red"
    return f"due in {duration_text(due - now)}", ""


def _state(one: Incident) -> str:
    return _words(one.state) + (", STOPPED" if one.stopped_at is not None else "")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=_LABEL, no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _text(text: str) -> Text:
    """Return a text that is shown as it is: never markup, never a control code; its line breaks stay."""
    return Text("\n".join(printable(line) for line in text.split("\n")))


def _console() -> Console:
    return Console(width=max(Console().width, WIDTH), highlight=False)
