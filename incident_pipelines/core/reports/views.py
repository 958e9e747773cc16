"""What report templates see of an incident: texts and lists of texts, under names that stay."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from incident_pipelines.core.incidents.response_times import ResponseTime, duration_text
from incident_pipelines.core.incidents.severity import OBLIGATIONS, respond_by
from incident_pipelines.core.incidents.timeline import Entry
from incident_pipelines.core.incidents.triage import window_text
from incident_pipelines.core.recovery.plan import Replay
from incident_pipelines.core.reports.due import PROGRESS_EVERY, progress_number
from incident_pipelines.core.reports.facts import ReportFacts
from incident_pipelines.core.reports.numbers import at, counted
from incident_pipelines.core.windows import TimeWindow

Values = dict[str, Any]
_SHOWN_WINDOWS = 3
_SHOWN_SEGMENTS = 12
_RECENT_ENTRIES = 20


def common(facts: ReportFacts) -> Values:
    """Return what every template sees."""
    one, answers = facts.incident, facts.answers
    meaning = OBLIGATIONS[one.severity].meaning
    next_progress = one.detected_at + (progress_number(one.detected_at, facts.as_of) + 1) * PROGRESS_EVERY
    return {
        "id": one.incident_id,
        "severity": one.severity,
        "meaning": f"{meaning[0].upper()}{meaning[1:]}",
        "notify": OBLIGATIONS[one.severity].notify,
        "title": one.title,
        "type": words(one.type),
        "cause": words(one.cause),
        "state": words(one.state),
        "stopped": f"{one.stopped_by}: {one.stopped_because}" if one.stopped_at is not None else "",
        "mode": facts.mode,
        "as_of": f"{facts.as_of:%Y-%m-%d %H:%M:%S} UTC",
        "open_for": duration_text(facts.as_of - one.detected_at),
        "next_progress": at(next_progress),
        "commander": one.commander or "none yet",
        "respond_by": at(respond_by(one.severity, one.detected_at)),
        "acknowledged": f"{one.acknowledged_by} at {at(one.acknowledged_at)}" if one.acknowledged_at else "",
        "window": window_text(one.window),
        "what_data": answers.what_data,
        "who_is_affected": answers.who_is_affected,
        "since_when": answers.since_when,
        "still_going_on": answers.still_going_on,
        "what_it_costs": answers.what_it_costs,
        # Our own words, with commands in backticks.
        "steps": [Markup(step) for step in facts.steps],
        "runbooks": facts.runbooks,
        "effects": [{"what": one.what, "state": one.state, "told": one.told} for one in facts.effects],
        "times": [time_row(time) for time in facts.times],
        "show": Markup(f"`incident-pipelines incident show {one.incident_id}`"),
    }


def scope_values(facts: ReportFacts) -> Values:
    """Return what exactly is touched."""
    scope = facts.scope
    if scope is None:
        nothing: Values = {
            name: [] for name in ("missing", "where", "rebuild", "downstream", "offsets", "money", "differences")
        }
        told = {"counted": "not scoped yet", "first_lost": "not known", "last_lost": "not known"}
        return {**nothing, "notes": [], **told}
    missing: list[Values] = []
    for name in dict.fromkeys(one.dataset for one in scope.suspects):
        parts = [one for one in scope.suspects if one.dataset == name]
        known = [one.missing for one in parts if one.missing is not None]
        open_parts = len(parts) - len(known)
        missing.append(
            {
                "dataset": name,
                "windows": counted(len(parts), "window"),
                "span": spans_text(one.window for one in parts),
                "declared": f"{sum(one.declared or 0 for one in parts):,}" if not open_parts else "not declared",
                "missing": f"{sum(known):,}"
                + (f" and what is missing in {counted(open_parts, 'window')} without totals" if open_parts else ""),
            }
        )
    return {
        "counted": scope.counted() if scope.suspects else "nothing from the log",
        "missing": missing,
        "where": scope.where(_SHOWN_SEGMENTS),
        "rebuild": [_windows(name, ones) for name, ones in by_dataset((o.dataset, o.window) for o in scope.rebuild)],
        "downstream": [
            _windows(name, ones) for name, ones in by_dataset((o.dataset, o.window) for o in scope.downstream)
        ],
        "offsets": [
            f"{one.topic} partition {one.partition}: offsets {one.from_offset:,} to {one.to_offset:,}, "
            f"at most {counted(one.records_at_most, 'record')}"
            for one in scope.offsets
        ],
        "money": [*(f"{amount} {currency}".strip() for currency, amount in scope.money), *scope.stakes()],
        "differences": [f"{one.reconciliation}: {one.rows:,} rows {one.kind}" for one in scope.differences],
        "notes": scope.notes,
        "first_lost": at(scope.first_lost),
        "last_lost": at(scope.last_lost),
    }


def plan_values(facts: ReportFacts) -> Values:
    """Return what is going to be done."""
    made = facts.plan
    if made is None:
        nothing: Values = {name: [] for name in ("replays", "uncovered", "publishes", "approval", "plan_notes")}
        return {**nothing, "digest": "", "approved_by": "", "estimate": "", "waits": False}
    plan = made.plan
    replays: dict[tuple[str, tuple[str, ...]], list[Replay]] = {}
    for one in plan.replays:
        replays.setdefault((one.dataset, one.sources), []).append(one)
    return {
        "digest": made.digest[:12],
        "approved_by": made.approved_by or "",
        "waits": facts.incident.state == "awaiting_approval",
        "approval": plan.approval,
        "replays": [
            f"{dataset}: {counted(len(ones), 'window')} ({spans_text(o.window for o in ones)}) from "
            f"{', then '.join(sources)}{_missing(ones)}"
            for (dataset, sources), ones in replays.items()
        ],
        "uncovered": [_windows(name, ones) for name, ones in by_dataset((o.dataset, o.window) for o in plan.uncovered)],
        "publishes": [_windows(name, ones) for name, ones in by_dataset((o.dataset, o.window) for o in plan.publishes)],
        "estimate": f"up to {plan.estimate.events:,} events replayed, {counted(plan.estimate.windows, 'window')} "
        f"published again, about {duration_text(plan.estimate.seconds)}",
        "plan_notes": plan.notes,
    }


def timeline_values(facts: ReportFacts, since: datetime | None = None) -> Values:
    """Return entries of the timeline since an instant, signals that joined in a row as one."""
    rows: list[Values] = []
    run: list[Entry] = []
    chosen = [entry for entry in facts.entries if since is None or entry.at > since]
    for entry in [*chosen, None]:
        if run and (entry is None or entry.kind != "signal_joined"):
            rows.append(_row(run[0], f"{counted(len(run), 'signal')} joined" if len(run) > 1 else run[0].text))
            run = []
        if entry is None:
            break
        if entry.kind == "signal_joined":
            run.append(entry)
        else:
            rows.append(_row(entry, _told(entry)))
    left = max(0, len(rows) - _RECENT_ENTRIES) if since is not None else 0
    return {"timeline": rows[left:], "left_out": left}


def last_told(facts: ReportFacts, state: str) -> str:
    """Return what the timeline says of the last change to a state."""
    told = [entry.text for entry in facts.entries if entry.kind == "state_changed" and entry.state_to == state]
    return told[-1] if told else ""


def recent(facts: ReportFacts) -> datetime:
    """Return since when a progress update tells what happened."""
    return facts.as_of - PROGRESS_EVERY


def by_dataset(places: Iterable[tuple[str, TimeWindow]]) -> list[tuple[str, list[TimeWindow]]]:
    """Return the windows of each dataset."""
    found: dict[str, list[TimeWindow]] = {}
    for name, window in places:
        found.setdefault(name, []).append(window)
    return list(found.items())


def spans_text(windows: Iterable[TimeWindow]) -> str:
    """Return windows in words, those that follow each other as one."""
    spans: list[TimeWindow] = []
    for window in sorted(windows):
        if spans and window.start <= spans[-1].end:
            spans[-1] = TimeWindow(spans[-1].start, max(spans[-1].end, window.end))
        else:
            spans.append(window)
    shown = "; ".join(window_text(window) for window in spans[:_SHOWN_WINDOWS])
    rest = len(spans) - _SHOWN_WINDOWS
    return f"{shown}; and {rest} more until {at(spans[-1].end)}" if rest > 0 else shown


def time_row(time: ResponseTime) -> Values:
    """Return one figure and how it was computed."""
    return {"name": time.name, "value": seconds_text(time.seconds), "how": time.how}


def seconds_text(seconds: float | timedelta | None) -> str:
    """Return a duration, or that there is none."""
    return "not known" if seconds is None else duration_text(seconds)


def words(name: str) -> str:
    """Return a name of ours as words."""
    return name.replace("_", " ")


def _windows(name: str, windows: list[TimeWindow]) -> str:
    return f"{name}: {counted(len(windows), 'window')}, {spans_text(windows)}"


def _missing(replays: list[Replay]) -> str:
    known = [one.missing for one in replays if one.missing is not None]
    return f", {sum(known):,} events missing" if len(known) == len(replays) else ", how many are missing is not known"


def _row(entry: Entry, told: str) -> Values:
    return {"number": str(entry.number), "at": f"{entry.at:%Y-%m-%d %H:%M:%S}", "who": entry.actor, "what": told}


def _told(entry: Entry) -> str:
    if entry.state_from is not None and entry.state_to is not None:
        return f"{words(entry.state_from)} → {words(entry.state_to)}: {entry.text}"
    return entry.text
