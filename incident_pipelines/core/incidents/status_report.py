"""The status report of an incident: what is known and what was done, in Markdown, from its timeline."""

from collections.abc import Sequence
from datetime import datetime

from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.incidents.response_times import ResponseTime, duration_text
from incident_pipelines.core.incidents.severity import OBLIGATIONS
from incident_pipelines.core.incidents.timeline import Entry, Tampering
from incident_pipelines.core.incidents.triage import Triage
from incident_pipelines.core.masking import printable

_MARKDOWN = frozenset("\\`*_{}[]<>#|~!")


def status_report(
    incident: Incident,
    answers: Triage,
    times: Sequence[ResponseTime],
    steps: Sequence[str],
    entries: Sequence[Entry],
    tampered: Sequence[Tampering],
    as_of: datetime,
) -> str:
    """Return the report; nothing that an incident holds is taken for Markdown, whatever it says.

    Args:
        as_of: when it was written.
    """
    obligation = OBLIGATIONS[incident.severity]
    lines = [
        f"# {incident.incident_id} · {incident.severity} · {escaped(incident.title)}",
        "",
        f"State **{incident.state.replace('_', ' ')}** as of {as_of:%Y-%m-%d %H:%M:%S} UTC. "
        f"{incident.type.replace('_', ' ').capitalize()}; {obligation.meaning}. "
        f"Commander: {escaped(incident.commander or 'none yet')}.",
    ]
    for title, answer in (
        ("What data", answers.what_data),
        ("Who is affected", answers.who_is_affected),
        ("Since when", answers.since_when),
        ("Still going on", answers.still_going_on),
        ("What it costs", answers.what_it_costs),
    ):
        lines += ["", f"## {title}", "", *(f"- {escaped(line)}" for line in answer)]
    # Steps are our own words, with commands in backticks.
    lines += ["", "## Next", "", *(f"- {step}" for step in steps)]
    lines += ["", "## Times", "", "| Figure | Value | How it was computed |", "|---|---|---|"]
    lines += [
        f"| {time.name} | {'' if time.seconds is None else duration_text(time.seconds)} | {escaped(time.how)} |"
        for time in times
    ]
    lines += ["", "## Timeline", "", "| # | UTC | Who | What |", "|---|---|---|---|"]
    lines += [
        f"| {entry.number} | {entry.at:%Y-%m-%d %H:%M:%S} | {escaped(entry.actor)} | {_what(entry)} |"
        for entry in entries
    ]
    lines += ["", _seal(incident, tampered), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it and does nothing else, on one line."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in printable(" ".join(text.split())))


def _what(entry: Entry) -> str:
    if entry.state_from is not None and entry.state_to is not None:
        return f"**{escaped(entry.state_from)} → {escaped(entry.state_to)}**: {escaped(entry.text)}"
    return escaped(entry.text)


def _seal(incident: Incident, tampered: Sequence[Tampering]) -> str:
    if tampered:
        return "**The timeline was tampered with:** " + "; ".join(escaped(one.what) for one in tampered) + "."
    return f"Timeline of {incident.entries} entries, whole; hash of the last one: `{incident.head_hash}`."
