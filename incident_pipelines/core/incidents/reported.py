"""What an incident that a person opened is about: no signal names its windows, so the person has to."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.causes import REPORTED
from incident_pipelines.core.incidents.incident import Incident, IncidentType
from incident_pipelines.core.incidents.scope import Affected, Strategy
from incident_pipelines.core.windows import TimeWindow


def affected_by(catalog: Catalog, incident_type: IncidentType, datasets: Iterable[str]) -> tuple[str, ...]:
    """Return the datasets that a report is about: where events are missing or late, a mart's inputs as well.

    Args:
        datasets: that the person has named.
    """
    found = list(datasets)
    if incident_type in ("data_loss", "pipeline_failure", "freshness_violation"):
        found += [given for name in found if name in catalog.marts for given in catalog.marts[name].contract.inputs]
    return tuple(dict.fromkeys(found))


def named_window(incident: Incident) -> TimeWindow | None:
    """Return the window that a person has named; None where there is none, or signals say what is affected."""
    return incident.window if incident.cause == REPORTED else None


def began_before(incident: Incident) -> datetime:
    """Return since when something may be wrong: what a person names may be older than what is known of it."""
    named = named_window(incident)
    return incident.began_at if named is None else min(incident.began_at, named.start)


def is_named(incident: Incident, window: TimeWindow) -> bool:
    """Return whether a person has named something of a window as affected."""
    named = named_window(incident)
    return named is not None and window.start < named.end and named.start < window.end


def named_windows(catalog: Catalog, incident: Incident, now: datetime) -> Iterator[Affected]:
    """Yield every window of the incident's datasets that the person's window touches.

    Args:
        now: aware; windows that begin later do not exist yet.
    """
    named = named_window(incident)
    if named is None:
        return
    for name in incident.datasets:
        contract = catalog.landed.get(name) or catalog.marts[name].contract
        start = max(named.start, catalog.start)
        while start < min(named.end, now):
            window = catalog.window_of(contract, start)
            yield Affected(name, window, f"a person reported: {incident.title}")
            start = window.end


def what_is_wanting(catalog: Catalog, incident: Incident, strategy: Strategy, looked_at: Collection[str]) -> str | None:
    """Return what a report does not say that has to be known before anything can be proved; None if nothing is.

    Args:
        looked_at: datasets that were counted, or of which windows are to be published again.
    """
    if incident.cause != REPORTED or strategy == "person":
        return None
    asked = [name for name in incident.datasets if strategy == "rebuild" or name in catalog.landed]
    if not asked:
        return "no dataset was named"
    left = [name for name in asked if name not in looked_at]
    if strategy == "catch_up" or not left:
        return None
    if incident.window is None:
        told = "no window was named"
        return told if strategy == "rebuild" else f"{told}, and {', '.join(left)} has no control totals to count by"
    return f"the window that was named, {incident.window}, holds nothing of {', '.join(left)} that could be looked at"
