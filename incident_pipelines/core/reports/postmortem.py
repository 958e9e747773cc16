"""What the postmortem template sees: what the system can say by itself; what it cannot is left to people by name."""

from datetime import timedelta

from incident_pipelines.core.incidents.causes import CAUSES
from incident_pipelines.core.incidents.response_times import duration_text
from incident_pipelines.core.incidents.severity import OBLIGATIONS, postmortem_due, respond_by
from incident_pipelines.core.reports.facts import ReportFacts
from incident_pipelines.core.reports.numbers import at, counted
from incident_pipelines.core.reports.views import Values, seconds_text, words

_SHOWN_SIGNALS = 5
_HOUR = 3600.0
_QUICK = timedelta(minutes=15)


def postmortem_values(facts: ReportFacts) -> Values:
    """Return what the postmortem is drafted from."""
    one, history = facts.incident, facts.history
    due = postmortem_due(one.severity, one.resolved_at or facts.as_of)
    well, badly = _judged(facts)
    return {
        "required": OBLIGATIONS[one.severity].postmortem,
        "due": at(due) if due else "no date",
        "final": one.state in ("resolved", "reviewed"),
        "by_hand": one.resolution == "by_hand",
        "signals": [f"{s.kind} in {s.dataset}: {s.summary}" for s in facts.signals[:_SHOWN_SIGNALS]],
        "more_signals": max(0, len(facts.signals) - _SHOWN_SIGNALS),
        "source": words(one.source),
        "whys": _whys(facts),
        "factors": _factors(facts),
        "well": well,
        "badly": badly,
        "promises": [
            {
                "number": str(p.number),
                "what": p.what,
                "owner": p.owner,
                "due": f"{p.due:%Y-%m-%d}" if p.due else "none",
                "done": "done" if p.done else "open",
            }
            for p in facts.promises
        ],
        "mttd_how": history.means.how.partition("; ")[0],
        "mttr_how": history.means.how.partition("; ")[2],
        "mttd": seconds_text(history.means.mttd_seconds),
        "mttr": seconds_text(history.means.mttr_seconds),
        "mttm": seconds_text(history.mttm_seconds),
        "model": loss_model(facts),
        "head_hash": one.head_hash,
        "entries": str(one.entries),
        "tampered": facts.tampered,
    }


def loss_model(facts: ReportFacts) -> list[Values]:
    """Return the terms of λ × T × (1 − s) and their product, each with what it is taken from.

    λ is how many events an hour the producers declared where this incident was, T how long it was noticed by nobody or
    contained by nobody, s the share that came back: of unfinished cases where salvage was tried for some, else of
    missing events.
    """
    one = facts.incident
    declared = [s for s in (facts.scope.suspects if facts.scope else ()) if s.declared is not None]
    hours = sum((s.window.end - s.window.start).total_seconds() for s in declared) / _HOUR
    rate = sum(s.declared or 0 for s in declared) / hours if hours else None
    exposed = None
    if one.contained_at is not None:
        exposed = max((one.contained_at - one.began_at).total_seconds(), 0.0) / _HOUR
    share, share_how = _salvaged(facts)
    known = rate is not None and exposed is not None and share is not None
    expected = f"{(rate or 0) * (exposed or 0) * (1 - (share or 0)):,.1f} events" if known else "not known"
    actual = f"{facts.loss.unrecoverable:,} events" if facts.loss is not None else "not known"
    mean = facts.history
    mttd, mttm = mean.means.mttd_seconds, mean.mttm_seconds
    usual = None if mttd is None or mttm is None else mttd + mttm
    per_day = mean.observed.total_seconds() / _HOUR / 24
    often = f"{mean.of_cause / per_day:.2f} a day" if per_day >= 1 else "watched for less than a day: no rate yet"
    return [
        _term(
            "λ", "not known" if rate is None else f"{rate:,.0f} events an hour", "control totals of the suspect parts"
        ),
        _term(
            "T",
            "not contained" if exposed is None else duration_text(exposed * _HOUR),
            "from its beginning to containment",
        ),
        _term(
            "s",
            "not known" if share is None else f"{share:.4f}",
            share_how,
        ),
        _term("λ × T × (1 − s)", expected, f"expected of an incident like this; this one has lost {actual}"),
        _term("T of all incidents", seconds_text(usual), "MTTD + MTTM, means over all incidents"),
        _term("incidents of this cause", f"{mean.of_cause}, {often}", "since the first incident of all"),
    ]


def _term(name: str, value: str, how: str) -> Values:
    return {"name": name, "value": value, "how": how}


def _salvaged(facts: ReportFacts) -> tuple[float | None, str]:
    """Return s, and how it was computed."""
    salvage, loss = facts.salvage, facts.loss
    if salvage.tried:
        return salvage.completed / salvage.tried, f"completed of {counted(salvage.tried, 'case')} that salvage tried"
    how = "recovered of all that was missing, by control totals"
    if loss is None or any(one.basis == "offsets" for one in loss.datasets):
        return None, how
    missing = loss.recovered + loss.unrecoverable
    return (loss.recovered / missing if missing else None), how


def _whys(facts: ReportFacts) -> list[Values]:
    """Return the questions of which the system knows an answer, and those that only people can answer."""
    one = facts.incident
    rule = next((rule for rule in CAUSES.values() if rule.cause == one.cause), None)
    first = facts.signals[0].summary if facts.signals else one.title
    noticed = (
        "a person reported it; no check or sensor did"
        if one.source == "person"
        else f"{words(one.source)}, {duration_text(one.detected_at - one.began_at)} after it began"
    )
    return [
        {"why": "Why was data missing or wrong?", "because": first},
        {
            "why": "Why could that happen?",
            "because": f"class of cause {words(one.cause)}: {rule.title}" if rule else "",
        },
        {"why": "Why was it not noticed earlier?", "because": noticed},
        {"why": "Why was it not prevented?", "because": ""},
        {"why": "Why was there no guard against that?", "because": ""},
    ]


def _factors(facts: ReportFacts) -> list[str]:
    found = [f"signal of kind {words(kind)}" for kind in dict.fromkeys(signal.kind for signal in facts.signals)]
    plan = facts.plan.plan if facts.plan is not None else None
    if plan is not None:
        silent = dict.fromkeys(c.source for replay in plan.replays for c in replay.choices if c.silent)
        found += [f"recovery source {name} did not answer" for name in silent]
        if plan.uncovered:
            found.append(f"no recovery source was left for {counted(len(plan.uncovered), 'window')}")
    if facts.scope is not None and any(s.declared is None for s in facts.scope.suspects):
        found.append("no control totals for a part of it: what is missing could only be bounded")
    return found


def _judged(facts: ReportFacts) -> tuple[list[str], list[str]]:
    """Return what went well and what badly, as far as instants and figures show it."""
    one = facts.incident
    well: list[str] = []
    badly: list[str] = []

    def judge(good: bool, if_good: str, if_not: str) -> None:
        (well if good else badly).append(if_good if good else if_not)

    took = one.detected_at - one.began_at
    judge(one.source != "person", "the system noticed it by itself", "a person had to notice it")
    judge(
        took <= _QUICK, f"noticed {duration_text(took)} after it began", f"it went on for {duration_text(took)} unseen"
    )
    due = respond_by(one.severity, one.detected_at)
    if one.acknowledged_at is not None:
        late = one.acknowledged_at - due
        judge(
            one.acknowledged_at <= due,
            f"acknowledged {duration_text(one.acknowledged_at - one.detected_at)} after detection, in time",
            f"acknowledged {duration_text(late)} too late",
        )
    else:
        badly.append("nobody acknowledged it")
    if one.contained_at is not None:
        well.append(
            f"contained {duration_text(one.contained_at - one.detected_at)} after detection, before anything else"
        )
    else:
        badly.append("it was never contained")
    people = [entry for entry in facts.entries if entry.actor_kind == "person" and entry.kind in _STEERING]
    judge(
        not people and one.source != "person",
        "contained, recovered and proved without a person",
        f"people had to act {counted(len(people), 'time')}" if people else "a person had to begin it",
    )
    if facts.loss is not None:
        loss = facts.loss
        if loss.unrecoverable or loss.unknown_at_most != 0:
            unknown = "" if loss.unknown_at_most == 0 else "; not all could be counted"
            badly.append(f"{counted(loss.unrecoverable, 'event')} gone for good{unknown}")
        else:
            well.append(f"nothing was lost; {counted(loss.recovered, 'event')} brought back")
        if loss.restated:
            badly.append("numbers that had been reported moved")
    for state, told in (("escalated", "the system gave up"), ("detected", "it began again")):
        times = sum(
            e.kind == "state_changed" and e.state_to == state and e.state_from is not None for e in facts.entries
        )
        if times:
            badly.append(f"{told} {counted(times, 'time')}")
    failed = [effect for effect in facts.effects if effect.state == "failed"]
    if failed:
        badly.append(f"{counted(len(failed), 'action')} failed: {', '.join(dict.fromkeys(e.what for e in failed))}")
    return well, badly


_STEERING = frozenset({"plan_approved", "stopped", "resumed", "state_changed"})
