"""What templates see of a loss: by dataset, by reported number, by group of people."""

from collections.abc import Sequence

from incident_pipelines.core.incidents.triage import Audience
from incident_pipelines.core.recovery.loss import LossStatement, Restated
from incident_pipelines.core.reports.due import money_marts
from incident_pipelines.core.reports.facts import ReportedMart, ReportFacts
from incident_pipelines.core.reports.headline import headline, money_sentence, producers, short_marts
from incident_pipelines.core.reports.numbers import at, change, counted, is_rows, number, percent, stands_on
from incident_pipelines.core.reports.views import Values, by_dataset, spans_text, words
from incident_pipelines.core.windows import TimeWindow


def loss_values(facts: ReportFacts) -> Values:
    """Return what was lost, what came back, and what that stands on."""
    loss = facts.loss
    if loss is None:
        return {"headline": "", "stated": False, "datasets": [], "restated": [], "loss_notes": [], "producers": ()}
    return {
        "headline": headline(loss, facts.reported),
        "stated": True,
        "stated_as_of": at(loss.as_of),
        "lost_from": at(loss.first_lost),
        "lost_until": at(loss.last_lost),
        "datasets": [
            {
                "dataset": one.dataset,
                "producer": one.producer,
                "declared": "not declared" if one.declared is None else f"{one.declared:,}",
                "recovered": f"{one.recovered:,}",
                "duplicates": f"{one.duplicates:,}",
                "unrecoverable": f"{one.unrecoverable:,}",
                "unknown": "not bounded" if one.unknown_at_most is None else _at_most(one.unknown_at_most),
                "stands_on": stands_on(one),
                "sources": ", ".join(one.sources) or "none are declared",
                "evidence": one.evidence,
            }
            for one in loss.datasets
        ],
        "restated": restated_rows(loss.restated),
        "loss_notes": loss.notes,
        "producers": producers(loss.datasets),
    }


def proof_values(facts: ReportFacts) -> Values:
    """Return what the statement was proved by."""
    proof = facts.proof
    if proof is None:
        return {"proof": []}
    lines = [f"{counted(len(proof.recounted), 'part')} of windows counted again"] if proof.recounted else []
    if proof.windows:
        lines.append(f"{counted(proof.windows, 'window')} with {proof.rows:,} rows published a second time: ")
        lines[-1] += "no row changed" if not proof.changed else f"{proof.changed:,} rows changed"
    lines += proof.compared
    lines += [f"not proved: {line}" for line in (*proof.unproven, *(one.told for one in proof.differing))]
    lines += [f"{name} did not answer" for name in proof.silent]
    return {"proof": lines}


def finance_values(facts: ReportFacts) -> Values:
    """Return whether reported numbers move: what finance asks first."""
    loss, marts = facts.loss, money_marts(facts)
    return {
        "marts": [_mart(facts, one) for one in marts],
        "moves": "" if loss is None else money_sentence(loss, facts.reported),
        "answer": "" if loss is None else _answer(loss, facts.reported),
        "short": [] if loss is None else [one.name for one in short_marts(loss, facts.reported)],
        "approval": () if facts.plan is None else facts.plan.plan.approval,
        "at_stake": []
        if facts.scope is None
        else [*(f"{money} {currency}" for currency, money in facts.scope.money), *facts.scope.stakes()],
    }


def note_values(facts: ReportFacts, groups: Sequence[str]) -> Values:
    """Return what a group of people has to know: their datasets, which windows, what is missing, what to do."""
    own: list[Values] = []
    for one in facts.told:
        roles = [
            role
            for role, found in (("owner", one.owner in groups), ("consumer", bool({*one.consumers} & {*groups})))
            if found
        ]
        if roles:
            own.append({"dataset": one.dataset, "role": " and ".join(roles), **_of_dataset(facts, one)})
    return {"group": ", ".join(groups) or "finance", "own": own, "over": facts.loss is not None}


def restatement_values(facts: ReportFacts, mart: str) -> Values:
    """Return which number of a mart was wrong, by how much, and since when."""
    loss = facts.loss
    rows = [one for one in loss.restated if one.dataset == mart] if loss is not None else []
    declared = next((one for one in facts.reported if one.name == mart), None)
    windows = _windows_of(facts, mart)
    months = dict.fromkeys(f"{one.start:%Y-%m}" for one in windows)
    return {
        "mart": mart,
        "owner": declared.owner if declared else "its owner",
        "consumers": ", ".join(declared.consumers) if declared and declared.consumers else "nobody is declared",
        "numbers": restated_rows(rows),
        "days": spans_text(windows) if windows else "not known",
        "months": ", ".join(months) or "not known",
        "closed": ", ".join(month for month in months if month < f"{facts.as_of:%Y-%m}"),
        "wrong_since": at(facts.incident.began_at),
        "known_since": at(facts.incident.detected_at),
        "right_since": at(facts.incident.recovered_at),
    }


def restated_rows(restated: Sequence[Restated]) -> list[Values]:
    """Return numbers that have moved, with the difference and its share."""
    return [
        {
            "dataset": one.dataset,
            "column": "rows" if is_rows(one) else words(one.column),
            "segment": one.segment or "all",
            "before": number(one.before),
            "after": number(one.after),
            "change": change(one),
            "percent": percent(one),
        }
        for one in restated
    ]


def _answer(loss: LossStatement, reported: Sequence[ReportedMart]) -> str:
    first = "Yes" if loss.restated else "Not by the recovery" if short_marts(loss, reported) else "No"
    return f"{first}: {money_sentence(loss, reported)}"


def _mart(facts: ReportFacts, one: ReportedMart) -> Values:
    windows = _windows_of(facts, one.name)
    rows = [r for r in facts.loss.restated if r.dataset == one.name] if facts.loss is not None else []
    return {
        "mart": one.name,
        "days": spans_text(windows) if windows else "no day is published again",
        "numbers": restated_rows(rows),
    }


def _of_dataset(facts: ReportFacts, one: Audience) -> Values:
    loss: LossStatement | None = facts.loss
    windows = _windows_of(facts, one.dataset)
    stated = next((d for d in loss.datasets if d.dataset == one.dataset), None) if loss is not None else None
    missing = [s for s in facts.scope.suspects if s.dataset == one.dataset] if facts.scope is not None else []
    if stated is not None:
        unknown = "how many more are missing is not known" if stated.unknown_at_most is None else ""
        if stated.unknown_at_most:
            unknown = f"of {stated.unknown_at_most:,} more at most it is not known whether they are missing"
        back = f"{stated.recovered:,} events are back, {stated.unrecoverable:,} are gone for good"
        told = f"{back}{'; ' if unknown else ''}{unknown} ({stands_on(stated)})"
    elif missing:
        known = [s.missing for s in missing if s.missing is not None]
        exact = len(known) == len(missing)
        told = f"{sum(known):,} events are missing" + ("" if exact else " at least: there are not totals for all of it")
    elif one.downstream:
        told = "made from what is affected"
    elif loss is not None:
        told = "nothing of it was missing from the log"
    else:
        told = "what is missing is not known yet"
    return {
        "downstream": one.downstream,
        "windows": spans_text(windows) if windows else "none known",
        "told": told,
        "do": _to_do(facts, one, bool(stated and not stated.is_whole)),
    }


def _to_do(facts: ReportFacts, one: Audience, wanting: bool) -> str:
    over = facts.incident.state in ("recovered", "resolved", "reviewed")
    if not over:
        return "do not decide on these windows until this is recovered; you do not have to do anything for that"
    if wanting:
        return "leave these windows out of comparisons, or say beside them what is missing: it will not come back"
    if one.downstream or facts.loss is not None:
        return "read these windows again: what you took from them before may differ"
    return "nothing"


def _windows_of(facts: ReportFacts, dataset: str) -> list[TimeWindow]:
    places: list[tuple[str, TimeWindow]] = []
    if facts.plan is not None:
        places += [(one.dataset, one.window) for one in facts.plan.plan.publishes]
    if facts.scope is not None:
        affected = (*facts.scope.suspects, *facts.scope.rebuild, *facts.scope.downstream)
        places += [(one.dataset, one.window) for one in affected]
    found = dict(by_dataset(places)).get(dataset, [])
    return sorted(dict.fromkeys(found))


def _at_most(count: int) -> str:
    return f"at most {count:,}" if count else "0"
