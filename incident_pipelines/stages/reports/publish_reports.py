"""Makes the reports that incidents owe, writes them as files and sends them: each once, whatever dies in between.

The text is committed first; file and message are made from it and may be made again. A message that was taken when the
process died before it could note that is sent once more, under the same title.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import Connection, Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.notify.apprise import Address, Tone, addresses_for, send
from incident_pipelines.adapters.notify.files import reports_folder, write_report
from incident_pipelines.adapters.report_templates import read_templates
from incident_pipelines.adapters.stores.incidents import lately_open_incidents
from incident_pipelines.adapters.stores.incidents_reports import (
    StoredReport,
    make_report,
    report_attempted,
    report_delivered,
    report_failed,
    report_sent,
    report_written,
    unfinished_reports,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.core.incidents.incident import Incident
from incident_pipelines.core.reports.due import RECENT, DueReport, due_reports
from incident_pipelines.core.reports.texts import ReportText, Templates, report_text
from incident_pipelines.stages.incidents.pages import incident_page, listed_incidents
from incident_pipelines.stages.reports.facts import report_facts

MAX_ATTEMPTS = 20
_FIRST_PAUSE = timedelta(seconds=15)
_LONGEST_PAUSE = timedelta(minutes=30)
_PAGE = 50
_SECONDS_FOR_SENDING = 30.0


def publish_reports(control: Engine, catalog: Catalog, environment: Mapping[str, str], now: datetime) -> list[str]:
    """Make, write and send what is due and what was left unfinished; return what was done, and what failed, in words.

    Does nothing while somebody else does it.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with _only_one(control) as ours:
        if not ours:
            return []
        told = _make(control, catalog, environment, now)
        # What cannot be written or sent is tried again later; it never keeps incidents from being worked on.
        return told + _finish(control, environment, now)


def live_report(
    control: Engine, catalog: Catalog, environment: Mapping[str, str], incident_id: str, wanted: str, now: datetime
) -> ReportText:
    """Return a report as it would be made now; nothing is kept or sent.

    Args:
        wanted: its name or its kind, as in `known_reports`.

    Raises:
        UnknownIncident: there is no such incident.
        IncidentPipelinesError: there is nothing yet to make it from; the message says which there are.
    """
    facts = report_facts(incident_page(control, catalog, incident_id, now), catalog, listed_incidents(control))
    due = due_reports(facts)
    names = {"progress": DueReport("progress", "progress")}
    for one in due:
        names |= {one.kind: one, one.name: one, one.name.removeprefix("note-"): one}
    if wanted not in names:
        shown = ", ".join(dict.fromkeys(one.name for one in due))
        state = facts.incident.state.replace("_", " ")
        raise IncidentPipelinesError(
            f"{incident_id} is {state} and has no report {wanted!r} yet; it has status, {shown}"
        )
    return report_text(names[wanted], facts, read_templates(environment))


def _make(control: Engine, catalog: Catalog, environment: Mapping[str, str], now: datetime) -> list[str]:
    told: list[str] = []
    templates = _templates(environment, told)
    with _changing(control) as connection:
        recent = lately_open_incidents(connection, now - RECENT)
    everything = listed_incidents(control) if recent else []
    for incident in recent:
        try:
            told += _made(control, catalog, incident, everything, templates, now)
        except SourceUnavailable:
            raise
        except IncidentPipelinesError as error:  # one incident does not keep the others
            told.append(f"{incident.incident_id}: reports cannot be made: {error}")
    return told


def _made(
    control: Engine,
    catalog: Catalog,
    incident: Incident,
    everything: list[Incident],
    templates: Templates,
    now: datetime,
) -> list[str]:
    page = incident_page(control, catalog, incident.incident_id, now)
    facts = report_facts(page, catalog, everything)
    known = {(one.name, one.basis) for one in page.reports}
    told: list[str] = []
    for due in due_reports(facts):
        if (due.name, due.basis) in known:
            continue
        text = report_text(due, facts, templates)
        with _changing(control) as connection:
            made = make_report(connection, incident.incident_id, due, text, now)
        failpoint("reports.intended")
        told += [f"{incident.incident_id}/{due.name} made"] if made else []
    return told


def _finish(control: Engine, environment: Mapping[str, str], now: datetime) -> list[str]:
    told: list[str] = []
    failed: set[str] = set()
    until = monotonic() + _SECONDS_FOR_SENDING
    with _changing(control) as connection:
        unfinished = unfinished_reports(connection, now, MAX_ATTEMPTS, _PAGE)
    for report in unfinished:
        if monotonic() > until:
            break
        with _changing(control) as connection:
            report_attempted(connection, report, now + min(_FIRST_PAUSE * 2**report.attempts, _LONGEST_PAUSE))
        problems = _write(control, environment, report) + _send(control, environment, report, failed, now)
        name = f"{report.incident_id}/{report.name}"
        if problems:
            last = " (for the last time)" if report.attempts + 1 >= MAX_ATTEMPTS else ""
            with _changing(control) as connection:
                report_failed(connection, report, "; ".join(problems))
            told.append(f"{name} not finished{last}: {'; '.join(problems)}")
    return told


def _write(control: Engine, environment: Mapping[str, str], report: StoredReport) -> list[str]:
    if report.path is not None:
        return []
    try:
        path = write_report(reports_folder(environment), report.incident_id, report.name, report.body)
    except IncidentPipelinesError as error:
        return [str(error)]
    failpoint("reports.written")
    with _changing(control) as connection:
        report_written(connection, report, str(path))
    return []


def _send(
    control: Engine, environment: Mapping[str, str], report: StoredReport, failed: set[str], now: datetime
) -> list[str]:
    """Send a report to whom it has not reached yet; an address that has just failed is left alone for this time."""
    if report.sent_at is not None:
        return []
    problems: list[str] = []
    addresses = addresses_for(environment, report.severity)
    for address in addresses:
        if address.digest in report.delivered:
            continue
        if address.digest in failed:
            problems.append(f"{address.place} has just failed")
            continue
        problem = _sent(address, report)
        if problem is not None:
            failed.add(address.digest)
            problems.append(problem)
            continue
        failpoint("reports.sent")
        with _changing(control) as connection:
            report_delivered(connection, report, address.digest)
    if not problems:
        with _changing(control) as connection:
            report_sent(connection, report, len(addresses), now)
    return problems


def _sent(address: Address, report: StoredReport) -> str | None:
    tones: dict[str, Tone] = {"escalated": "failure", "detected": "warning", "recovered": "success"}
    return send(address, report.title, report.body, tones.get(report.kind, "info"))


def _templates(environment: Mapping[str, str], told: list[str]) -> Templates:
    """Return the templates; where those of one's own cannot be read, the shipped ones alone: a page goes out."""
    try:
        return read_templates(environment)
    except IncidentPipelinesError as error:
        told.append(str(error))
        return read_templates({})


@contextmanager
def _only_one(control: Engine) -> Iterator[bool]:
    with _changing(control) as connection:
        yield bool(connection.execute(query("take_reports")).scalar())


@contextmanager
def _changing(control: Engine) -> Iterator[Connection]:
    with available("control database"), control.begin() as connection:
        yield connection
