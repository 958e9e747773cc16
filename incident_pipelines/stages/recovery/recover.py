"""Brings a contained incident to its end: scope, plan, replay and publish, verify, release. Every step can be repeated.

An incident's state says which step is next; whoever takes it up, after whatever died, goes on from there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.postgres import available, reading_url
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.stores.holds import MAX_WINDOWS, hold_windows, release_holds
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_findings import latest_finding, store_finding, unread_spans
from incident_pipelines.adapters.stores.incidents_timeline import NewEntry, append_entry, read_timeline
from incident_pipelines.adapters.stores.incidents_work import StoredPlan, latest_plan, plans_of, store_plan
from incident_pipelines.core.errors import GuardrailReached, WindowOwned
from incident_pipelines.core.incidents.holds import joined
from incident_pipelines.core.incidents.incident import Incident, State
from incident_pipelines.core.incidents.scope import Affected, Scope, Suspect, strategy_of
from incident_pipelines.core.recovery.guardrails import MAX_ATTEMPTS, SHARE_OF_PEAK, guardrails
from incident_pipelines.core.recovery.loss import Brought, LossStatement, is_table, loss_of
from incident_pipelines.core.recovery.plan import RecoveryPlan, closed_periods, plan_of
from incident_pipelines.core.recovery.proof import Proof, Replayed, Unread
from incident_pipelines.core.recovery.told import plan_told, proof_told, scope_told
from incident_pipelines.stages.incidents.contain import release_containment
from incident_pipelines.stages.landing.capacity import known_capacity, landing_capacity
from incident_pipelines.stages.landing.caught_up import wait_until_landed
from incident_pipelines.stages.publication.backfill import AlreadyDone, publish_range
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import Failed, Refused, Skipped
from incident_pipelines.stages.recovery.event_worth import recovered_money
from incident_pipelines.stages.recovery.left_to_others import wait_for_others
from incident_pipelines.stages.recovery.mart_sums import added, mart_sums, moved
from incident_pipelines.stages.recovery.plan import make_plan
from incident_pipelines.stages.recovery.remove_deletes import remove_missed_deletes
from incident_pipelines.stages.recovery.replay import Replayer
from incident_pipelines.stages.recovery.scope import missing_segments, scope_of
from incident_pipelines.stages.recovery.verify import brought_back, duplicates_of, published_by, verify
from incident_pipelines.stages.recovery.window_causes import window_causes
from incident_pipelines.stages.recovery.windows_held import LEFT_TO_OTHERS, giving_way_to
from incident_pipelines.stages.recovery.work import Work, changing, check_wanted, current, lead, plans_since_detected


def scope_incident(work: Work) -> State:
    """Lead an incident from `contained` to `scoped`, or to `escalated` where nothing can be done without a person.

    Raises:
        SourceUnavailable: a database does not answer, or the lander does not catch up; nothing was changed.
    """
    incident = current(work)
    if incident.state != "contained" or incident.stopped_at is not None:
        return incident.state
    now = work.clock()
    if strategy_of(incident.cause, incident.type) in ("replay", "catch_up"):
        wait_until_landed(work.environment, incident.datasets, work.report)
        now = work.clock()
    scope = _look(work, now)
    with changing(work) as connection:
        store_finding(connection, work.incident_id, "scope", scope.revision, scope, now)
        if scope.strategy == "person":
            told = "; ".join(scope.notes) or "the system knows no way to repair this by itself: see the runbook"
            return lead(connection, work, "contained", "escalated", told, scope.revision)
        detail = {
            "missing_at_least": scope.missing_at_least,
            "missing_at_most": scope.missing_at_most,
            "windows": len(scope.suspects) + len(scope.rebuild),
            "downstream": len(scope.downstream),
            "first_lost": scope.first_lost,
            "last_lost": scope.last_lost,
        }
        return lead(connection, work, "contained", "scoped", scope_told(scope), scope.revision, detail)


def plan_incident(work: Work) -> State:
    """Lead an incident from `scoped` to `planned`, `awaiting_approval` or `waiting_for_cause`.

    Where nothing is missing and nothing has to be published again, to `verifying`.

    Raises:
        SourceUnavailable: a database does not answer; nothing was changed.
    """
    incident, scope = _scoped(work)
    if incident.state != "scoped" or incident.stopped_at is not None or scope is None:
        return incident.state
    if not scope.suspects and not scope.rebuild:
        with changing(work) as connection:
            told = "nothing is missing and nothing has to be published again; it is proved now"
            return lead(connection, work, "scoped", "verifying", told, scope.revision)
    plan = _plan(work, scope)
    with changing(work) as connection:
        store_plan(connection, work.incident_id, plan.digest, plan.revision, plan.body(), work.actor, work.clock())
        lead(connection, work, "scoped", "planned", plan_told(plan), plan.revision, {"digest": plan.digest})
        if scope.strategy == "wait":
            detail = {"cause": _cause(work, plan, when_refused=True)}
            told = "the windows stay quarantined until their inputs or their SQL change"
            return lead(connection, work, "planned", "waiting_for_cause", told, plan.revision, detail)
    return _ask(work, plan)


def recover_incident(work: Work) -> State:
    """Lead an incident from `planned` to `verifying`: replay what is missing, publish what depends on it.

    Begun again it goes on where it ended: what is in the log is not appended again, what is published is not published
    again.

    Raises:
        WindowOwned: another incident recovers one of its windows, or has found it wrong before; nothing was changed.
        RecoveryStopped: a person has stopped it; what was done stays.
        GuardrailReached: it may not go on by itself; it is escalated.
        SourceUnavailable: a database does not answer; what was done stays.
    """
    incident, stored = _planned(work)
    if incident.state not in ("planned", "recovering") or incident.stopped_at is not None or stored is None:
        return incident.state
    plan = plan_of(stored.body)
    if incident.state == "planned":
        state = _ask(work, plan)
        if state != "planned":
            return state
        _take_windows(work, plan, stored)
    # Read before anything is published: what changes meanwhile is worth another try.
    cause = _cause(work, plan)
    try:
        unread = _replay(work, stored, plan)
        removed = remove_missed_deletes(work, plan)
        left = _publish(work, stored, plan)
    except GuardrailReached as error:
        with changing(work) as connection:
            return lead(connection, work, "recovering", "escalated", f"guardrail: {error}", None)
    refused = [one for one in left if isinstance(one, Refused)]
    with changing(work) as connection:
        scope = latest_finding(connection, work.incident_id, "scope", Scope)
        store_finding(
            connection, work.incident_id, "replay", plan.revision, Replayed(stored.digest, tuple(unread)), work.clock()
        )
        if scope is not None and scope.strategy == "wait":
            if refused:
                told = f"still wrong ({_told(refused[0])}); the windows stay quarantined"
                return lead(connection, work, "recovering", "waiting_for_cause", told, plan.revision, {"cause": cause})
            if left:
                raise WindowOwned(f"{_told(left[0])}: tried again")
        wanting = len(removed) + len(left)
        told = f"replayed and published; {wanting} windows are left" if wanting else "replayed and published"
        return lead(connection, work, "recovering", "verifying", told, None)


def verify_incident(work: Work) -> State:
    """Lead an incident from `verifying` to `recovered` if it is proved; else to the next plan, or `escalated`.

    Raises:
        RecoveryStopped: a person has stopped it.
        WindowOwned: it cannot be proved before another incident has put right what it holds; nothing was changed.
        SourceUnavailable: a database does not answer; nothing was changed.
    """
    incident, scope = _scoped(work)
    if incident.state != "verifying" or incident.stopped_at is not None or scope is None:
        return incident.state
    if incident.revision != scope.revision:
        with changing(work) as connection:
            told = "more is affected than was scoped: contained and scoped again"
            return lead(connection, work, "verifying", "detected", told, None)
    with available("control database"), work.control.connect() as connection:
        plans = [plan_of(one.body) for one in plans_since_detected(connection, work)]
        unread = unread_spans(connection, work.incident_id)
    now = work.clock()
    proof = verify(
        work.control,
        work.warehouse,
        work.catalog,
        work.environment,
        scope,
        plans,
        unread,
        now,
        owner=work.owner,
        report=work.report,
        check=lambda: check_wanted(work),
    )
    failpoint("recover.verified")
    loss = _loss(work, scope, proof, plans)
    with changing(work) as connection:
        store_finding(connection, work.incident_id, "proof", scope.revision, proof, now)
        store_finding(connection, work.incident_id, "loss", scope.revision, loss, now)
    if proof.may_go_on and len(plans) < MAX_ATTEMPTS:
        return _next_plan(work, scope, plans, unread, proof)
    if proof.is_left_to_others:
        wait_for_others(work, proof)
    if (proof.unproven or proof.differing) and scope.strategy == "compare" and len(plans) < MAX_ATTEMPTS:
        again = _look(work, work.clock())
        if _asks_for_more(again, scope):
            return _plan_again(work, again)
    with changing(work) as connection:
        detail = {"windows": proof.windows, "rows": proof.rows, "missing": proof.missing, "changed": proof.changed}
        if lines := proof.against:
            told = f"not proved after {len(plans)} plans: {'; '.join(lines[:5])}" + (
                f" and {len(lines) - 5} more" if len(lines) > 5 else ""
            )
            detail[LEFT_TO_OTHERS] = proof.is_left_to_others
            return lead(connection, work, "verifying", "escalated", told, scope.revision, detail)
        return lead(connection, work, "verifying", "recovered", proof_told(proof, loss), scope.revision, detail)


def release_incident(work: Work) -> State:
    """Let go of what a recovered incident holds and undo its containment; everything was published before.

    One that was left to a person lets go of what it was recovering, so that others go on there, and stays contained.
    """
    incident = current(work)
    if incident.state == "escalated":
        with available("warehouse"), work.warehouse.begin() as connection:
            release_holds(connection, work.incident_id, ("recovery",))
        return incident.state
    if incident.state not in ("recovered", "resolved", "reviewed"):
        return incident.state
    release_containment(
        work.control, work.warehouse, work.catalog, work.environment, work.incident_id, work.actor, work.clock()
    )
    return incident.state


def _cause(work: Work, plan: RecoveryPlan, *, when_refused: bool = False) -> dict[str, str]:
    """Return what would have to change so that waiting windows may come right, by window."""
    places = [(one.dataset, one.window) for one in plan.publishes]
    return window_causes(work.warehouse, work.catalog, places, when_refused=when_refused)


def _take_windows(work: Work, plan: RecoveryPlan, stored: StoredPlan) -> None:
    places = [(one.dataset, one.window) for one in plan.publishes]
    reason = f"recovery by plan {stored.digest[:12]}"
    others = giving_way_to(work.control, work.warehouse, work.incident_id, places)
    try:
        for start in range(0, len(places), MAX_WINDOWS):
            part = joined(places[start : start + MAX_WINDOWS])
            with available("warehouse"), work.warehouse.begin() as connection:
                hold_windows(connection, work.incident_id, "recovery", part, reason, work.clock(), regardless_of=others)
    except WindowOwned:
        # Who holds a part and waits for the rest would keep the other, who does the same, from going on.
        with available("warehouse"), work.warehouse.begin() as connection:
            release_holds(connection, work.incident_id, ("recovery",))
        raise
    failpoint("recover.held")
    with changing(work) as connection:
        told = f"plan {stored.digest[:12]} is carried out: {plan_told(plan)}"
        lead(connection, work, "planned", "recovering", told, plan.revision, {"digest": stored.digest})


def _replay(work: Work, stored: StoredPlan, plan: RecoveryPlan) -> list[Unread]:
    """Replay what a plan takes from where; return what could not be read to its end."""
    unread: list[Unread] = []
    capacity = None
    if plan.replays:
        capacity = landing_capacity(work.control, work.warehouse, work.catalog, work.clock())
        work.report(f"replaying at most {capacity * SHARE_OF_PEAK:,.0f} events a second")
    limits = guardrails(plan.estimate.events, capacity)
    replayer = Replayer(
        work.control,
        work.warehouse,
        work.catalog,
        work.environment,
        work.incident_id,
        stored.plan_id,
        limits,
        check=lambda: check_wanted(work),
        report=work.report,
        clock=work.clock,
    )
    for span in replayer.replay(plan.replays):
        said = f"{span.dataset} {span.window}: {span.appended:,} of {span.read:,} events of {span.source} were missing"
        if span.failed:
            said += f"; {span.failed:,} break their contract"
        if span.unavailable:
            unread.append(Unread(span.dataset, span.window, span.source, span.unavailable))
            said += f"; not read to its end: {span.unavailable}"
        work.report(said)
        detail = {
            "source": span.source,
            "dataset": span.dataset,
            "appended": span.appended,
            "problems": [f"{one.place} {one.reason}" for one in span.problems],
        }
        if span.appended or span.problems or span.unavailable:
            with changing(work) as connection:
                append_entry(
                    connection, work.incident_id, NewEntry("replayed", work.actor, said, work.clock(), detail=detail)
                )
    failpoint("recover.replayed")
    return unread


def _publish(work: Work, stored: StoredPlan, plan: RecoveryPlan) -> list[Refused | Failed | Skipped]:
    """Publish what a plan says; return the windows that were refused, could not be built or are somebody else's."""
    left: list[Refused | Failed | Skipped] = []
    total, done = len(plan.publishes), 0
    key = f"{work.incident_id}:{stored.digest}"
    for dataset in dict.fromkeys(one.dataset for one in plan.publishes):
        windows = [one.window for one in plan.publishes if one.dataset == dataset]
        for outcome in publish_range(
            work.warehouse,
            work.catalog,
            dataset,
            windows,
            root_run_id=key,
            owner=work.owner,
            before=lambda _: check_wanted(work),
            incident_id=work.incident_id,
        ):
            done += 1
            match outcome:
                case PublishedWindow():
                    work.published(outcome, f"{work.incident_id}, window {done} of {total},")
                case AlreadyDone():
                    pass
                case Refused() | Failed() | Skipped():
                    left.append(outcome)
                    work.report(_told(outcome))
            failpoint("recover.published")
    return left


def _told(outcome: Refused | Failed | Skipped) -> str:
    return f"{outcome.dataset} {outcome.window}: {outcome.message}"


def _ask(work: Work, plan: RecoveryPlan) -> State:
    """Lead a plan that needs a person's approval to `awaiting_approval`; return the state."""
    with changing(work) as connection:
        stored = latest_plan(connection, work.incident_id)
        # A month may have closed since the plan was made.
        closed = closed_periods(work.catalog, plan.publishes, work.clock())
        reasons = list(dict.fromkeys((*closed, *plan.approval)))
        if work.catalog.mode != "act":
            reasons.append(f"mode {work.catalog.mode}: every plan waits for a person")
        if not reasons or (stored is not None and _stands(connection, work, stored)):
            return "planned"
        command = f"incident-pipelines incident approve {work.incident_id} --plan {plan.digest[:12]}"
        told = f"waits for approval ({'; '.join(reasons)}): `{command}`"
        return lead(connection, work, "planned", "awaiting_approval", told, plan.revision)


def _stands(connection: Connection, work: Work, stored: StoredPlan) -> bool:
    """Whether a plan was approved, and what it publishes is made by the same that it was approved for."""
    changed = [
        one.at
        for one in read_timeline(connection, work.incident_id)
        if (one.state_from, one.state_to) == ("waiting_for_cause", "planned")
    ]
    return stored.approved_at is not None and not any(at > stored.approved_at for at in changed)


def _next_plan(
    work: Work, scope: Scope, plans: list[RecoveryPlan], unread: Mapping[str, Sequence[Unread]], proof: Proof
) -> State:
    plan = _plan(work, _still_missing(scope, proof), plans, unread)
    with changing(work) as connection:
        store_plan(connection, work.incident_id, plan.digest, plan.revision, plan.body(), work.actor, work.clock())
        missing = f"{proof.missing:,} events are still missing" if proof.missing else "a source was not read to its end"
        told = f"{missing}; the next source: {plan_told(plan)}"
        lead(connection, work, "verifying", "planned", told, plan.revision, {"digest": plan.digest})
    return _ask(work, plan)


def _asks_for_more(again: Scope, before: Scope) -> bool:
    """Whether something else is missing or wrong by now than what was repaired: then that is repaired as well."""
    windows, known = ({(one.dataset, one.window) for one in scope.rebuild} for scope in (again, before))
    return again.suspects != before.suspects or windows != known


def _plan_again(work: Work, scope: Scope) -> State:
    """Lead an incident whose sides disagree anew to another plan, as of another scope."""
    plan = _plan(work, scope)
    with changing(work) as connection:
        store_finding(connection, work.incident_id, "scope", scope.revision, scope, scope.as_of)
        store_plan(connection, work.incident_id, plan.digest, plan.revision, plan.body(), work.actor, work.clock())
        told = f"the sides disagree about something else by now: {scope_told(scope)}; {plan_told(plan)}"
        lead(connection, work, "verifying", "planned", told, plan.revision, {"digest": plan.digest})
    return _ask(work, plan)


def _still_missing(scope: Scope, proof: Proof) -> Scope:
    wanting = {(one.dataset, one.window): one for one in proof.recounted if one.is_open}
    suspects = [
        replace(one, landed=wanting[one.dataset, one.window].after)
        for one in scope.suspects
        if (one.dataset, one.window) in wanting
    ]
    return replace(scope, suspects=tuple(suspects))


def _plan(
    work: Work,
    scope: Scope,
    before: Sequence[RecoveryPlan] = (),
    unread: Mapping[str, Sequence[Unread]] | None = None,
) -> RecoveryPlan:
    now = work.clock()
    capacity = known_capacity(work.control, now)
    environment = {**work.environment, "WAREHOUSE_URL": reading_url(work.environment["WAREHOUSE_URL"])}
    environment.pop("CONTROL_DATABASE_URL", None)
    plan = make_plan(
        work.catalog,
        environment,
        scope,
        now,
        before=before,
        unread=unread,
        events_per_second=capacity * SHARE_OF_PEAK,
        report=work.report,
    )
    with available("control database"), work.control.connect() as connection:
        made = len(plans_of(connection, work.incident_id))
    # What a plan before it has published has moved already: of each window the sums before the first plan count.
    known = {(one.dataset, one.window) for earlier in before for one in earlier.publishes}
    fresh = [one for one in plan.publishes if (one.dataset, one.window) not in known]
    return replace(plan, number=made + 1, sums=mart_sums(work.warehouse, work.catalog, _ended(fresh, scope)))


def _loss(work: Work, scope: Scope, proof: Proof, plans: list[RecoveryPlan]) -> LossStatement:
    windows = published_by(work.catalog, plans)
    places = [(one.dataset, one.window) for one in windows if one.dataset in work.catalog.landed]
    before = added(plan.sums for plan in plans)
    restated = moved(before, mart_sums(work.warehouse, work.catalog, _ended(windows, scope)))
    gone = [
        Suspect(one.dataset, one.window, one.declared, one.after, one.stated) for one in proof.recounted if one.missing
    ]
    notes: list[str] = []
    return loss_of(
        work.catalog,
        scope,
        proof,
        _brought(work),
        duplicates_of(work.warehouse, places),
        restated,
        recovered_money(work.warehouse, work.catalog, work.incident_id),
        missing_segments(work.catalog, work.environment, gone, notes),
        notes,
    )


def _brought(work: Work) -> dict[str, Brought]:
    """Return what was brought back of each dataset: what the log has of it, and of tables what their extracts gave."""
    found = brought_back(work.warehouse, work.catalog, work.incident_id)
    with available("control database"), work.control.connect() as connection:
        entries = read_timeline(connection, work.incident_id)
    for detail in (entry.detail for entry in entries if entry.kind == "replayed"):
        dataset, appended = str(detail["dataset"]), int(detail["appended"])
        contract = work.catalog.landed.get(dataset)
        if contract is not None and is_table(contract):
            before = found.get(dataset, Brought(0, 0))
            found[dataset] = Brought(before.events + appended, before.dead_letters)
    return found


def _ended(windows: Iterable[Affected], scope: Scope) -> list[Affected]:
    """Return the windows that were over when they were looked at: the numbers of others move by themselves."""
    return [one for one in windows if one.window.end <= scope.as_of]


def _look(work: Work, now: datetime) -> Scope:
    return scope_of(work.control, work.warehouse, work.catalog, work.environment, work.incident_id, now, work.report)


def _scoped(work: Work) -> tuple[Incident, Scope | None]:
    with available("control database"), work.control.connect() as connection:
        incident = read_incident(connection, work.incident_id)
        return incident, latest_finding(connection, work.incident_id, "scope", Scope)


def _planned(work: Work) -> tuple[Incident, StoredPlan | None]:
    with available("control database"), work.control.connect() as connection:
        return read_incident(connection, work.incident_id), latest_plan(connection, work.incident_id)
