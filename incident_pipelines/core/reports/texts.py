"""Title and Markdown of a report, by its kind."""

from collections.abc import Mapping
from dataclasses import dataclass

from incident_pipelines.core.reports.due import DueReport, ReportKind
from incident_pipelines.core.reports.facts import ReportFacts
from incident_pipelines.core.reports.loss_values import (
    finance_values,
    loss_values,
    note_values,
    proof_values,
    restatement_values,
)
from incident_pipelines.core.reports.markdown import BadTemplate, filled
from incident_pipelines.core.reports.postmortem import postmortem_values
from incident_pipelines.core.reports.views import (
    Values,
    common,
    last_told,
    plan_values,
    recent,
    scope_values,
    timeline_values,
)

TEMPLATES: Mapping[ReportKind, str] = {
    "detected": "update_detected",
    "scoped": "update_scoped",
    "plan": "update_plan",
    "recovered": "update_recovered",
    "progress": "update_progress",
    "escalated": "escalated",
    "loss": "loss_statement",
    "finance": "note_finance",
    "note": "note",
    "restatement": "restatement_note",
    "postmortem": "postmortem",
}
"""Name of each kind's template."""

_TITLES: Mapping[ReportKind, str] = {
    "detected": "detected",
    "scoped": "scoped",
    "plan": "plan",
    "recovered": "recovered",
    "progress": "still open",
    "escalated": "ESCALATED, needs a person",
    "loss": "loss statement",
    "finance": "note for finance",
    "note": "note",
    "restatement": "restatement of",
    "postmortem": "postmortem (draft)",
}


@dataclass(frozen=True)
class Templates:
    """Texts of templates, by name.

    Args:
        shipped: one for each kind.
        own: take the place of shipped ones.
    """

    shipped: Mapping[str, str]
    own: Mapping[str, str]


@dataclass(frozen=True)
class ReportText:
    """A report as it is written and sent.

    Args:
        title: plain text on one line.
        body: Markdown.
    """

    title: str
    body: str


def report_text(due: DueReport, facts: ReportFacts, templates: Templates) -> ReportText:
    """Return a report; a template of one's own that cannot be filled in is replaced by the shipped one, and named.

    Raises:
        BadTemplate: the shipped template cannot be filled in.
    """
    values = report_values(due, facts)
    name = TEMPLATES[due.kind]
    if name in templates.own:
        try:
            return ReportText(_title(due, facts), filled(templates.own[name], values, name))
        except BadTemplate as error:
            values["template_error"] = str(error)
    return ReportText(_title(due, facts), filled(templates.shipped[name], values, name))


def report_values(due: DueReport, facts: ReportFacts) -> Values:
    """Return what the template of a report sees."""
    values: Values = {**common(facts), **scope_values(facts), **plan_values(facts), **loss_values(facts)}
    values |= {**proof_values(facts), **finance_values(facts), "name": due.name, "template_error": ""}
    match due.kind:
        case "progress":
            values |= timeline_values(facts, recent(facts))
        case "escalated":
            values |= {**timeline_values(facts, recent(facts)), "because": last_told(facts, "escalated")}
        case "finance" | "note":
            values |= note_values(facts, due.subjects or (("finance",) if due.kind == "finance" else ()))
        case "restatement":
            values |= restatement_values(facts, due.subjects[0])
        case "postmortem":
            values |= {**timeline_values(facts), **postmortem_values(facts)}
        case _:
            pass
    return values


def _title(due: DueReport, facts: ReportFacts) -> str:
    one = facts.incident
    about = f" {', '.join(due.subjects)}" if due.kind in ("note", "restatement") else ""
    joined = " for" if due.kind == "note" else ""
    incident_title = "".join(c if c.isprintable() else " " for c in " ".join(one.title.split()))[:120]
    return f"[{one.incident_id} {one.severity}] {_TITLES[due.kind]}{joined}{about}: {incident_title}"
