"""What is known of incidents, read at once for command line, console and reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Engine, text

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.incidents import read_incident, read_incidents, signals_of
from incident_pipelines.adapters.stores.incidents_findings import FindingKind, latest_finding
from incident_pipelines.adapters.stores.incidents_reports import StoredReport, reports_of
from incident_pipelines.adapters.stores.incidents_timeline import read_timeline
from incident_pipelines.adapters.stores.incidents_work import (
    ActionItem,
    StoredAction,
    StoredPlan,
    action_items,
    latest_plan,
    read_actions,
)
from incident_pipelines.adapters.stores.salvaged import salvage_totals
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import runbook
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.modes import Mode
from incident_pipelines.core.incidents.next_steps import next_steps
from incident_pipelines.core.incidents.response_times import ResponseTime, response_times
from incident_pipelines.core.incidents.scope import Scope
from incident_pipelines.core.incidents.timeline import Entry, Tampering, tamperings
from incident_pipelines.core.incidents.triage import Audience, Triage, audiences, triage
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.recovery.proof import Proof
from incident_pipelines.core.reports.facts import ReportedMart, Salvage, reported_marts

_Finding = TypeVar("_Finding")


@dataclass(frozen=True)
class IncidentPage:
    """Everything about one incident, of one instant.

    Args:
        tampered: what is wrong with its timeline; nothing if it is whole.
        runbooks: paths in the repository, by the kinds of its signals.
        scope, proof, loss: what was found out last; None where nothing was.
        reports: that were made.
        salvage: cases that were completed on its behalf, of those that were tried.
        reported: marts whose numbers are reported for good.
    """

    incident: Incident
    signals: tuple[RaisedSignal, ...]
    entries: tuple[Entry, ...]
    tampered: tuple[Tampering, ...]
    told: tuple[Audience, ...]
    triage: Triage
    times: tuple[ResponseTime, ...]
    next_steps: tuple[str, ...]
    runbooks: tuple[str, ...]
    plan: StoredPlan | None
    actions: tuple[StoredAction, ...]
    items: tuple[ActionItem, ...]
    scope: Scope | None
    proof: Proof | None
    loss: LossStatement | None
    reports: tuple[StoredReport, ...]
    salvage: Salvage
    reported: tuple[ReportedMart, ...]
    mode: Mode
    as_of: datetime


def incident_page(control: Engine, catalog: Catalog, incident_id: str, now: datetime) -> IncidentPage:
    """Return everything about one incident.

    Raises:
        UnknownIncident: there is none of that id.
        SourceUnavailable: the control database does not answer.
    """
    with _snapshot(control) as connection:
        incident = read_incident(connection, incident_id)
        signals = signals_of(connection, incident_id)
        entries = read_timeline(connection, incident_id)
        plan = latest_plan(connection, incident_id)
        actions = read_actions(connection, incident_id)
        items = action_items(connection, incident_id)
        scope = _found(connection, incident_id, "scope", Scope)
        proof = _found(connection, incident_id, "proof", Proof)
        loss = _found(connection, incident_id, "loss", LossStatement)
        reports = reports_of(connection, incident_id)
        salvaged = salvage_totals(connection, None, incident_id)
    told = audiences(catalog, incident.datasets)
    kinds = dict.fromkeys(signal.kind for signal in signals)
    return IncidentPage(
        incident,
        tuple(signals),
        tuple(entries),
        tuple(tamperings(incident_id, entries, incident.entries, incident.head_hash)),
        told,
        triage(incident, signals, told, now, scope),
        response_times(incident),
        next_steps(incident, catalog.mode, now, planned=plan is not None),
        tuple(dict.fromkeys(runbook(kind) for kind in kinds)) or (runbook(""),),
        plan,
        tuple(actions),
        tuple(items),
        scope,
        proof,
        loss,
        tuple(reports),
        Salvage(salvaged.get("completed", 0), sum(salvaged.values())),
        reported_marts(catalog),
        catalog.mode,
        now,
    )


def listed_incidents(control: Engine) -> list[Incident]:
    """Return all incidents in the order in which they were opened.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with _snapshot(control) as connection:
        return read_incidents(connection, only_open=False)


def _found(connection: Connection, incident_id: str, kind: FindingKind, form: type[_Finding]) -> _Finding | None:
    """Return a finding; one that an older version wrote otherwise is none, so that the rest can be read."""
    try:
        return latest_finding(connection, incident_id, kind, form)
    except msgspec.ValidationError:
        return None


@contextmanager
def _snapshot(control: Engine) -> Iterator[Connection]:
    with available("control database"), control.begin() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield connection
