"""Incidents in types that JSON has, for programs that read the command line's output."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import msgspec

from incident_pipelines.adapters.stores.incidents_work import ActionItem
from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.incidents.severity import respond_by
from incident_pipelines.core.reports.headline import headline
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents.pages import IncidentPage


def incident_json(one: Incident) -> dict[str, Any]:
    """Return an incident in types that JSON has."""
    return {
        "incident_id": one.incident_id,
        "type": one.type,
        "cause": one.cause,
        "severity": one.severity,
        "state": one.state,
        "title": one.title,
        "source": one.source,
        "datasets": list(one.datasets),
        **_window_json(one.window),
        "began_at": one.began_at.isoformat(),
        "detected_at": one.detected_at.isoformat(),
        "opened_at": one.opened_at.isoformat(),
        "last_signal_at": _plain(one.last_signal_at),
        "signals": one.signals,
        "revision": one.revision,
        "commander": one.commander,
        "respond_by": respond_by(one.severity, one.detected_at).isoformat(),
        "acknowledged_at": _plain(one.acknowledged_at),
        "acknowledged_by": one.acknowledged_by,
        "contained_at": _plain(one.contained_at),
        "recovered_at": _plain(one.recovered_at),
        "resolved_at": _plain(one.resolved_at),
        "resolution": one.resolution,
        "reviewed_at": _plain(one.reviewed_at),
        "stopped_at": _plain(one.stopped_at),
        "stopped_by": one.stopped_by,
        "stopped_because": one.stopped_because,
    }


def page_json(page: IncidentPage) -> dict[str, Any]:
    """Return everything about an incident in types that JSON has."""
    one, answers = page.incident, page.triage
    return {
        **incident_json(one),
        "mode": page.mode,
        "triage": {
            "what_data": list(answers.what_data),
            "who_is_affected": list(answers.who_is_affected),
            "since_when": list(answers.since_when),
            "still_going_on": list(answers.still_going_on),
            "what_it_costs": list(answers.what_it_costs),
        },
        "affected": [
            {"dataset": a.dataset, "owner": a.owner, "consumers": list(a.consumers), "downstream": a.downstream}
            for a in page.told
        ],
        "next_steps": list(page.next_steps),
        "runbooks": list(page.runbooks),
        "times": [{"name": time.name, "seconds": time.seconds, "how": time.how} for time in page.times],
        "signal_list": [
            {
                "signal_id": signal.signal_id,
                "kind": signal.kind,
                "severity": signal.severity,
                "dataset": signal.dataset,
                **_window_json(signal.window),
                "occurred_at": signal.occurred_at.isoformat(),
                "raised_at": signal.raised_at.isoformat(),
                "cleared_at": _plain(signal.cleared_at),
                "summary": signal.summary,
            }
            for signal in page.signals
        ],
        "plan": plan_json(page)["plan"],
        "actions": [
            {
                "key": action.key,
                "kind": action.kind,
                "target": _plain(action.target),
                "state": action.state,
                "intended_at": _plain(action.intended_at),
                "intended_by": action.intended_by,
                "attempts": action.attempts,
                "outcome": _plain(action.outcome),
                "outcome_at": _plain(action.outcome_at),
                "undone_at": _plain(action.undone_at),
            }
            for action in page.actions
        ],
        "action_items": items_json(page.items),
        "scope": None if page.scope is None else msgspec.to_builtins(page.scope),
        "proof": None if page.proof is None else msgspec.to_builtins(page.proof),
        "loss": None
        if page.loss is None
        else {"headline": headline(page.loss, page.reported), **msgspec.to_builtins(page.loss)},
        "reports": [
            {
                "name": report.name,
                "kind": report.kind,
                "title": report.title,
                "made_at": report.made_at.isoformat(),
                "path": report.path,
                "sent_at": _plain(report.sent_at),
                "addresses": report.addresses,
                "attempts": report.attempts,
                "error": report.error,
            }
            for report in page.reports
        ],
        "timeline": [
            {
                "entry": entry.number,
                "at": entry.at.isoformat(),
                "kind": entry.kind,
                "actor_kind": entry.actor_kind,
                "actor": entry.actor,
                "text": entry.text,
                "state_from": entry.state_from,
                "state_to": entry.state_to,
                "detail": _plain(entry.detail),
                "hash": entry.hash,
            }
            for entry in page.entries
        ],
        "timeline_whole": not page.tampered,
        "tampered": [{"entry": problem.entry, "what": problem.what} for problem in page.tampered],
    }


def plan_json(page: IncidentPage) -> dict[str, Any]:
    """Return the plan of an incident, or none and what the incident is waiting for, in types that JSON has."""
    one, plan = page.incident, page.plan
    return {
        "incident_id": one.incident_id,
        "state": one.state,
        "next_steps": list(page.next_steps),
        "plan": None
        if plan is None
        else {
            "digest": plan.digest,
            "revision": plan.revision,
            "made_at": _plain(plan.made_at),
            "made_by": plan.made_by,
            "approved_at": _plain(plan.approved_at),
            "approved_by": plan.approved_by,
            "body": _plain(plan.body),
        },
    }


def items_json(items: Iterable[ActionItem]) -> list[dict[str, Any]]:
    """Return action items in types that JSON has."""
    return [
        {
            "item": one.item,
            "text": one.text,
            "owner": one.owner,
            "due": _plain(one.due),
            "done_at": _plain(one.done_at),
            "done_by": one.done_by,
        }
        for one in items
    ]


def _window_json(window: TimeWindow | None) -> dict[str, Any]:
    return {
        "window_start": None if window is None else window.start.isoformat(),
        "window_end": None if window is None else window.end.isoformat(),
    }


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case _:
            return value
