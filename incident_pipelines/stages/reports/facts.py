"""What is known of an incident, as reports are made from it."""

from collections.abc import Iterable

import msgspec

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.incidents.triage import audiences
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.reports.facts import Effect, MadePlan, Promise, ReportFacts, history_of
from incident_pipelines.stages.incidents.pages import IncidentPage


def report_facts(page: IncidentPage, catalog: Catalog, incidents: Iterable[Incident]) -> ReportFacts:
    """Return what reports about an incident are made from.

    Args:
        incidents: all there were, for means.
    """
    scope = page.scope
    names = dict.fromkeys((*page.incident.datasets, *(scope.datasets if scope is not None else ())))
    raw = [name for name in names if name not in catalog.marts or name in page.incident.datasets]
    return ReportFacts(
        incident=page.incident,
        signals=page.signals,
        entries=page.entries,
        tampered=tuple(one.what for one in page.tampered),
        told=audiences(catalog, raw),
        answers=page.triage,
        times=page.times,
        steps=page.next_steps,
        runbooks=page.runbooks,
        plan=_plan(page),
        effects=tuple(
            Effect(
                str(one.target.get("what", one.kind)),
                one.state,
                one.intended_at,
                str((one.outcome or {}).get("told", "")),
            )
            for one in page.actions
        ),
        promises=tuple(Promise(one.item, one.text, one.owner, one.due, one.done_at is not None) for one in page.items),
        scope=scope,
        proof=page.proof,
        loss=page.loss,
        reported=page.reported,
        history=history_of(page.incident, incidents, page.as_of),
        salvage=page.salvage,
        mode=page.mode,
        as_of=page.as_of,
    )


def _plan(page: IncidentPage) -> MadePlan | None:
    """Return the plan that was made last; one that an older version wrote otherwise is none."""
    stored = page.plan
    if stored is None:
        return None
    try:
        plan = plan_of(stored.body)
    except msgspec.ValidationError:
        return None
    return MadePlan(plan, stored.digest, stored.made_at, stored.approved_by)
