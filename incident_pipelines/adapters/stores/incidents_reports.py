"""Reports of incidents and how far each is, in the control database: made, written, sent."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping

from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.incidents.severity import IncidentSeverity
from incident_pipelines.core.incidents.timeline import clean
from incident_pipelines.core.reports.due import DueReport, ReportKind
from incident_pipelines.core.reports.texts import ReportText


@dataclass(frozen=True)
class StoredReport:
    """A report as it was made.

    Args:
        basis: what it was made of.
        path: of its file; None while it is not written.
        delivered: digests of the addresses that have taken it.
        sent_at: when all addresses had; None while one has not.
        addresses: how many these were; 0 where nobody is to be told.
        error: of the last attempt that failed; it stays when a later one succeeds.
    """

    incident_id: str
    severity: IncidentSeverity
    name: str
    kind: ReportKind
    basis: str
    title: str
    body: str
    made_at: datetime
    path: str | None
    delivered: tuple[str, ...]
    sent_at: datetime | None
    addresses: int | None
    attempts: int
    error: str | None


def make_report(connection: Connection, incident_id: str, due: DueReport, text: ReportText, now: datetime) -> bool:
    """Keep the text of a report that is to be written and sent; False if there is one of the same basis already."""
    values = {
        "incident_id": incident_id,
        "name": due.name,
        "kind": due.kind,
        "basis": due.basis,
        "title": clean(text.title),
        "body": clean(text.body),
        "made_at": now,
    }
    return connection.execute(query("make_incident_report"), values).scalar() is not None


def reports_of(connection: Connection, incident_id: str) -> list[StoredReport]:
    """Return the reports of an incident in the order in which they were made."""
    return [
        _report(row) for row in connection.execute(query("incident_reports"), {"incident_id": incident_id}).mappings()
    ]


def unfinished_reports(connection: Connection, now: datetime, attempts_at_most: int, page: int) -> list[StoredReport]:
    """Return reports that are not written or not sent and may be tried now, escalations first, at most a page."""
    values = {"now": now, "attempts_at_most": attempts_at_most, "page": page}
    return [_report(row) for row in connection.execute(query("unfinished_reports"), values).mappings()]


def report_attempted(connection: Connection, report: StoredReport, again_after: datetime) -> None:
    """Count one more attempt, before it is made."""
    connection.execute(query("attempt_report"), {**_key(report), "attempt_after": again_after})


def report_written(connection: Connection, report: StoredReport, path: str) -> None:
    """Note where a report's file is."""
    connection.execute(query("report_written"), {**_key(report), "path": path})


def report_delivered(connection: Connection, report: StoredReport, address: str) -> None:
    """Note that one address has taken a report.

    Args:
        address: its digest.
    """
    connection.execute(query("report_delivered"), {**_key(report), "address": address})


def report_sent(connection: Connection, report: StoredReport, addresses: int, now: datetime) -> None:
    """Note that all addresses have taken a report."""
    connection.execute(query("report_sent"), {**_key(report), "addresses": addresses, "now": now})


def report_failed(connection: Connection, report: StoredReport, error: str) -> None:
    """Note why an attempt failed."""
    connection.execute(query("report_failed"), {**_key(report), "error": clean(error)})


def _key(report: StoredReport) -> dict[str, str]:
    return {"incident_id": report.incident_id, "name": report.name, "basis": report.basis}


def _report(row: RowMapping) -> StoredReport:
    return StoredReport(
        incident_id=row["incident_id"],
        severity=row["severity"],
        name=row["name"],
        kind=row["kind"],
        basis=row["basis"],
        title=row["title"],
        body=row["body"],
        made_at=row["made_at"].astimezone(UTC),
        path=row["path"],
        delivered=tuple(row["delivered"]),
        sent_at=row["sent_at"] and row["sent_at"].astimezone(UTC),
        addresses=row["addresses"],
        attempts=row["attempts"],
        error=row["error"],
    )
