"""For a day after a recovery its exact scope is counted again every hour: what came back has to stay."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.logs import fields
from incident_pipelines.adapters.stores.incidents_findings import latest_finding, stated_losses
from incident_pipelines.adapters.stores.signals import clear_signal, open_signal_keys, raise_window_signal
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.scope import Scope
from incident_pipelines.core.recovery.proof import Proof, Recounted
from incident_pipelines.core.signal_summaries import summarize
from incident_pipelines.core.signals import Fact, grade
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.monitoring.monitor import LEVELS
from incident_pipelines.stages.recovery.verify import recount

LOGGER = logging.getLogger(__name__)

KIND = "recovery_undone"
WATCHED_FOR = timedelta(hours=24)
"""SPEC §7: so long after a recovery its datasets are watched more closely."""


def watch_recovered(
    control: Engine, catalog: Catalog, environment: Mapping[str, str], now: datetime
) -> tuple[str, ...]:
    """Count the scopes of what was recovered in the last day again; what is missing anew is a signal while it lasts.

    Published windows of a recovery are compared with their digests every 30 s besides (`stages.window_watch`), as are
    all that were published lately.

    Args:
        environment: WAREHOUSE_URL, and the variables that the catalog names.
        now: aware.

    Returns:
        What was looked at, a line for each incident.

    Raises:
        SourceUnavailable: the control database does not answer; nothing was changed.
    """
    told: list[str] = []
    with available("control database"), control.connect() as connection:
        recent = list(connection.execute(query("recovered_since"), {"since": now - WATCHED_FOR}).scalars())
    for incident_id in recent:
        with available("control database"), control.connect() as connection:
            scope = latest_finding(connection, incident_id, "scope", Scope)
            proof = latest_finding(connection, incident_id, "proof", Proof)
            others = stated_losses(connection, incident_id)
        if scope is None or proof is None or not scope.suspects:
            continue
        stated = {(one.dataset, one.window): one.missing or 0 for one in proof.recounted}
        again = recount(catalog, environment, scope, ())
        worse = [
            one for one in again if (one.missing or 0) > stated.get((one.dataset, one.window), 0) + _later(one, others)
        ]
        _signal(control, incident_id, worse, now)
        told.append(f"{incident_id}: {len(again)} parts of windows counted again, {len(worse)} miss events anew")
    return tuple(told)


def _later(one: Recounted, others: Mapping[tuple[str, datetime], int]) -> int:
    """Return how many events of a part of an hour other incidents have stated to be gone since it was scoped."""
    return max(0, others.get((one.dataset, TimeWindow.hour_of(one.window.start).start), 0) - one.stated)


def _signal(control: Engine, incident_id: str, worse: list[Recounted], now: datetime) -> None:
    found = [
        Fact(
            0,
            KIND,
            one.dataset,
            one.window.start,
            one.window.end,
            {
                "signal_key": f"{incident_id} {one.dataset} {one.window.start.isoformat()}",
                "incident_id": incident_id,
                "missing": one.missing,
            },
            now,
        )
        for one in worse
    ]
    keys = {str(fact.detail["signal_key"]) for fact in found}
    with available("control database"), control.begin() as connection:
        for key, (signal_id, _) in open_signal_keys(connection, KIND).items():
            if key.startswith(f"{incident_id} ") and key not in keys:
                clear_signal(connection, signal_id)
        for fact in found:
            grading, summary = grade(KIND), summarize(fact)
            signal_id = raise_window_signal(connection, fact, grading, summary)
            if signal_id is not None:
                LOGGER.log(
                    LEVELS[grading.severity],
                    "signal",
                    extra=fields(severity=grading.severity, signal_id=signal_id, kind=KIND, summary=summary),
                )
