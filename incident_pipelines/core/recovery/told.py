"""A scope, a plan and a proof in words, for whoever reads the timeline or has to agree to a plan."""

from collections.abc import Iterable
from datetime import timedelta

from incident_pipelines.core.catalog import END_OF_TIME
from incident_pipelines.core.incidents.holds import joined
from incident_pipelines.core.incidents.scope import Affected, Scope
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.recovery.plan import RecoveryPlan, Replay
from incident_pipelines.core.recovery.proof import Proof
from incident_pipelines.core.windows import TimeWindow


def scope_told(scope: Scope) -> str:
    """Return what is missing and what has to be published again."""
    parts: list[str] = []
    if scope.suspects:
        since = ""
        if scope.first_lost and scope.last_lost:
            since = f", from {scope.first_lost:%Y-%m-%d %H:%M} to {scope.last_lost:%Y-%m-%d %H:%M} UTC"
        parts.append(f"missing: {scope.counted()}{since}")
    if scope.rebuild:
        parts.append(f"{len(scope.rebuild)} windows to publish again")
    if not parts:
        return "nothing is missing"
    return "; ".join([*parts, f"{len(scope.downstream)} windows of marts are made from it"])


def plan_told(plan: RecoveryPlan) -> str:
    """Return what a plan does, in one line."""
    parts = [
        f"{dataset} from {source} ({windows} windows)"
        for (dataset, source), windows in _by_source(plan.replays).items()
    ]
    if plan.uncovered:
        lost = ", ".join(sorted({one.dataset for one in plan.uncovered}))
        parts.append(f"nothing covers {len(plan.uncovered)} windows of {lost}")
    parts.append(f"{len(plan.publishes)} windows are published again, about {plan.estimate.seconds:.0f} s")
    return "; ".join(parts)


def proof_told(proof: Proof, loss: LossStatement) -> str:
    """Return what proves a recovery."""
    parts = [f"{len(proof.recounted)} parts of windows counted again"] if proof.recounted else []
    parts += [f"{proof.windows} windows published a second time, no row changed"] if proof.windows else []
    parts += list(proof.compared)
    parts.append(f"{loss.recovered:,} events recovered, {loss.unrecoverable:,} are gone for good")
    return f"proved: {'; '.join(parts)}"


def plan_lines(plan: RecoveryPlan) -> list[tuple[str, str]]:
    """Return a plan as (what, how) for a person who has to agree to it: every choice with its reason."""
    lines: list[tuple[str, str]] = []
    for dataset, windows, one in _alike(plan.replays):
        missing = "an unknown number of" if one.missing is None else f"{_missing(plan.replays, dataset, one):,}"
        lines.append((f"replay {dataset}", f"{windows}: {missing} missing events"))
        lines += [_choice_line(one, number) for number in range(len(one.choices))]
    for dataset, windows, one in _alike(plan.uncovered):
        gone = "an unknown number of" if one.missing is None else f"{_missing(plan.uncovered, dataset, one):,}"
        lines.append((f"lost in {dataset}", f"{windows}: no source is left for {gone} events"))
        lines += [_choice_line(one, number) for number in range(len(one.choices))]
    for name in plan.remove:
        lines.append(("remove", f"rows that {name} finds in the warehouse and the source no longer has, asked again"))
    for dataset in dict.fromkeys(one.dataset for one in plan.publishes):
        own = [one for one in plan.publishes if one.dataset == dataset]
        lines.append((f"publish {dataset}", f"{len(own)} windows, {spanned(one.window for one in own)}"))
        lines += [("", f"because {why}") for why in _reasons(own)]
    events = f"up to {plan.estimate.events:,} events, " if plan.estimate.events else ""
    rate = f" at {plan.estimate.events_per_second:,.0f} events a second" if plan.estimate.events_per_second else ""
    seconds = timedelta(seconds=round(plan.estimate.seconds))
    lines.append(("cost", f"{events}{plan.estimate.windows} windows, about {seconds}{rate if events else ''}"))
    lines += [("approval", why) for why in plan.approval]
    lines += [("note", note) for note in plan.notes]
    return lines


def spanned(windows: Iterable[TimeWindow]) -> str:
    """Return windows as a person reads them: those that follow each other as one."""
    spans = [span for _, span in joined(("", window) for window in windows)]
    if any(span.end == END_OF_TIME for span in spans):
        return "all of it"
    shown = [f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}" for span in spans[:3]]
    return ", ".join(shown) + (f" and {len(spans) - 3} more spans" if len(spans) > 3 else "") + " UTC"


def _by_source(replays: Iterable[Replay]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for one in replays:
        for source in one.sources:
            found[one.dataset, source] = found.get((one.dataset, source), 0) + 1
    return found


def _alike(replays: Iterable[Replay]) -> list[tuple[str, str, Replay]]:
    """Return (dataset, its windows, one of them) for parts of windows that the same is done about."""
    groups: dict[tuple[str, tuple[str, ...]], list[Replay]] = {}
    for one in replays:
        groups.setdefault((one.dataset, one.sources), []).append(one)
    return [(dataset, spanned(one.window for one in same), same[0]) for (dataset, _), same in groups.items()]


def _missing(replays: Iterable[Replay], dataset: str, like: Replay) -> int:
    return sum(one.missing or 0 for one in replays if one.dataset == dataset and one.sources == like.sources)


def _choice_line(one: Replay, number: int) -> tuple[str, str]:
    choice = one.choices[number]
    ends = "" if choice.until is None else f", until {choice.until:%Y-%m-%d %H:%M} UTC"
    return ("", f"{'→' if choice.taken else '·'} {choice.source}: {choice.why}{ends if choice.taken else ''}")


def _reasons(windows: Iterable[Affected]) -> list[str]:
    """Return at most three different reasons, windows left out of them."""
    found = dict.fromkeys(one.because.partition(" [")[0] for one in windows)
    return list(found)[:3]
