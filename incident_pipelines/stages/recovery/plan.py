"""Makes a recovery plan from scope and coverage. It reads under a role that cannot write, and keeps nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from incident_pipelines.adapters.recovery_sources import recovery_sources
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.scope import Scope, Suspect
from incident_pipelines.core.recovery.coverage import KAFKA, Recoverability
from incident_pipelines.core.recovery.plan import RecoveryPlan, plan_recovery, tried_for
from incident_pipelines.core.recovery.proof import Unread
from incident_pipelines.stages.recovery.recoverability import recoverability

Report = Callable[[str], None]

LANDED_ALREADY = "all that the topic still holds has been landed"


def make_plan(
    catalog: Catalog,
    environment: Mapping[str, str],
    scope: Scope,
    now: datetime,
    *,
    before: Sequence[RecoveryPlan] = (),
    unread: Mapping[str, Sequence[Unread]] | None = None,
    events_per_second: float | None = None,
    report: Report = lambda _: None,
) -> RecoveryPlan:
    """Return what to do about a scope.

    Args:
        environment: addresses of roles that can only read (see `adapters.databases.postgres.reading_url`).
        now: aware.
        before: plans of the same revision that were carried out and did not bring everything back: what they took is
            not taken again.
        unread: what each of them could not read to its end, by its digest: that may be taken again.
        events_per_second: guardrail of a replay; None without one.
        report: told of each step.
    """
    sources = recovery_sources(catalog, environment)
    notes: list[str] = []
    found: dict[Suspect, Recoverability] = {}
    for dataset, group in groupby(scope.suspects, key=lambda suspect: suspect.dataset):
        suspects = list(group)
        windows = [suspect.window for suspect in suspects]
        contract = catalog.landed[dataset]
        # What was landed from a topic that is whole cannot be missing there: a wide question to it would be in vain.
        asked = {name: source for name, source in sources.items() if name not in _excluded(scope)}
        answers = recoverability(catalog, environment, contract, windows, now, asked, notes, report)
        found.update(zip(suspects, answers, strict=True))
    tried = {suspect: tried_for(suspect, before, unread or {}) for suspect in scope.suspects}
    return plan_recovery(
        catalog,
        replace(scope, notes=(*scope.notes, *notes)),
        found,
        attempt=len(before) + 1,
        tried=tried,
        excluded=_excluded(scope),
        now=now,
        events_per_second=events_per_second,
    )


def _excluded(scope: Scope) -> dict[str, str]:
    """After records aged out, the lander has gone on from the topic's start: Kafka has nothing that it has not."""
    return {KAFKA: LANDED_ALREADY} if scope.offsets else {}
