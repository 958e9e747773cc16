"""Which reports an incident owes, from its timeline and what was found out; the clock is passed in."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from incident_pipelines.core.incidents.incident import State
from incident_pipelines.core.incidents.timeline import Entry
from incident_pipelines.core.reports.facts import ReportedMart, ReportFacts, groups_of

ReportKind = Literal[
    "detected",
    "scoped",
    "plan",
    "recovered",
    "progress",
    "escalated",
    "loss",
    "finance",
    "note",
    "restatement",
    "postmortem",
]
REPORT_KINDS: tuple[ReportKind, ...] = get_args(ReportKind)

PROGRESS_EVERY = timedelta(minutes=30)
RECENT = timedelta(days=1)
"""So long after its end an incident is still looked at."""

_OVER: tuple[State, ...] = ("recovered", "resolved", "reviewed")
_NOBODY = "not in the catalog"


@dataclass(frozen=True)
class DueReport:
    """A report that there has to be.

    Args:
        name: within the incident; of its file as well.
        basis: what it was made of: it is made and sent again when that changes.
        subjects: groups that a note is for, or the mart of a restatement.
    """

    name: str
    kind: ReportKind
    basis: str = ""
    subjects: tuple[str, ...] = ()


def due_reports(facts: ReportFacts) -> list[DueReport]:
    """Return what there has to be as of the facts' instant, in the order in which it is sent.

    A second scope, plan, recovery or escalation is told by a report of its own, with a number; of those that were
    missed the last one alone.
    """
    entries = facts.entries
    found = [DueReport("01-detected", "detected")]
    if facts.scope is not None:
        found += _told("02-scoped", "scoped", _times(entries, "scoped"))
    if facts.plan is not None:
        found += _told("03-plan", "plan", sum(entry.kind == "plan_made" for entry in entries))
    found += _told("escalated", "escalated", _times(entries, "escalated"))
    found += _told("04-recovered", "recovered", _times(entries, "recovered"))
    found += _progress(facts)
    found += _statements(facts)
    if facts.incident.state in _OVER:
        closed = facts.incident.state != "recovered"
        found.append(DueReport("postmortem", "postmortem", "resolved" if closed else "recovered"))
    return found


def notes_due(facts: ReportFacts) -> list[DueReport]:
    """Return the notes to those who own or use what is affected; the money note is one of them."""
    loss = facts.loss
    basis = f"loss {loss.as_of.isoformat()}" if loss is not None else "scope"
    names: dict[str, list[str]] = {}
    for group in groups_of(facts.told):
        if group != _NOBODY:
            names.setdefault(slug(group), []).append(group)
    money = money_marts(facts)
    found: list[DueReport] = []
    if money or (facts.scope is not None and facts.scope.money):
        found.append(DueReport("note-finance", "finance", basis, tuple(names.pop("finance", ()))))
    found += [DueReport(f"note-{name}", "note", basis, tuple(groups)) for name, groups in names.items()]
    return found


def money_marts(facts: ReportFacts) -> tuple[ReportedMart, ...]:
    """Return the marts with reported numbers that are made from what is affected, or are affected themselves."""
    affected = {*facts.datasets, *facts.incident.datasets}
    return tuple(one for one in facts.reported if one.name in affected or affected.intersection(one.inputs))


def progress_number(detected_at: datetime, now: datetime) -> int:
    """Return how many times 30 minutes have passed since an incident was detected."""
    return max(0, (now - detected_at) // PROGRESS_EVERY)


def slug(name: str) -> str:
    """Return a name as part of a file's name: lower case letters, digits and hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain and len(plain) <= 60:
        return plain
    return f"{plain[:40]}-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}".strip("-")


def _progress(facts: ReportFacts) -> list[DueReport]:
    number = progress_number(facts.incident.detected_at, facts.as_of)
    if number < 1 or facts.incident.state in _OVER:
        return []
    return [DueReport(f"progress-{number}", "progress")]


def _statements(facts: ReportFacts) -> list[DueReport]:
    """Notes go out with the scope already; what it has cost is stated when it is proved, or nobody can prove it."""
    loss, scope = facts.loss, facts.scope
    if scope is None:
        return []
    touched = scope.suspects or scope.rebuild or scope.downstream or scope.differences
    found = notes_due(facts) if touched else []
    if loss is None or facts.incident.state not in (*_OVER, "escalated"):
        return [] if loss is not None else found
    basis = f"loss {loss.as_of.isoformat()}"
    found.insert(0, DueReport("loss-statement", "loss", basis))
    marts = dict.fromkeys(one.dataset for one in loss.restated)
    found += [DueReport(f"restatement-{slug(mart)}", "restatement", basis, (mart,)) for mart in marts]
    return found


def _times(entries: Sequence[Entry], state: State) -> int:
    return sum(entry.kind == "state_changed" and entry.state_to == state for entry in entries)


def _told(name: str, kind: ReportKind, times: int) -> list[DueReport]:
    if times == 0:
        return []
    return [DueReport(name if times == 1 else f"{name}-{times}", kind)]
