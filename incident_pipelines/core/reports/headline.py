"""The loss statement in one sentence, as it is said to somebody in a corridor."""

from collections.abc import Sequence

from incident_pipelines.core.recovery.loss import DatasetLoss, LossStatement, Restated
from incident_pipelines.core.reports.facts import ReportedMart
from incident_pipelines.core.reports.numbers import about, change, is_rows, percent

_SHOWN = 3


def headline(loss: LossStatement, reported: Sequence[ReportedMart]) -> str:
    """Return what is gone, what was brought back and whether reported numbers move, and what that stands on."""
    parts = [_gone(loss), *_rest(loss), money_sentence(loss, reported)]
    return f"{'; '.join(part for part in parts if part)}. {_basis(loss)}".strip()


def money_sentence(loss: LossStatement, reported: Sequence[ReportedMart]) -> str:
    """Return whether numbers that were reported move, or are wrong without anybody being able to move them."""
    moved = [one for one in loss.restated if not is_rows(one)] or list(loss.restated)
    short = short_marts(loss, reported)
    parts: list[str] = []
    if moved:
        said = [_moved(one) for one in moved[:_SHOWN]]
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        parts.append(f"reported numbers move: {', '.join(said)}{more}")
    if short:
        parts.append(f"{', '.join(one.name for one in short)} stays without what is gone or unknown")
    return "; ".join(parts) or "money numbers do not move"


def short_marts(loss: LossStatement, reported: Sequence[ReportedMart]) -> tuple[ReportedMart, ...]:
    """Return the marts with reported numbers that are made from a dataset in which something is gone or unknown."""
    wanting = {one.dataset for one in loss.datasets if not one.is_whole}
    return tuple(one for one in reported if wanting.intersection(one.inputs))


def _gone(loss: LossStatement) -> str:
    losing = [one for one in loss.datasets if one.unrecoverable]
    if not losing:
        if loss.unknown_at_most == 0:
            back = loss.recovered
            return f"nothing is lost: {about(back)} events were brought back" if back else "nothing is lost"
        return "nothing is proved to be lost"
    known = [one.declared for one in loss.datasets if one.declared is not None]
    of = f" of {about(sum(known))}" if known and len(known) == len(loss.datasets) else ""
    which = (
        f"all of them {_words(losing[0].dataset)}"
        if len(losing) == 1
        else ", ".join(f"{about(one.unrecoverable)} {_words(one.dataset)}" for one in losing)
    )
    noun = "event" if loss.unrecoverable == 1 and not of else "events"
    are = "is" if loss.unrecoverable == 1 else "are"
    return f"{about(loss.unrecoverable)}{of} {noun} in the window {are} gone for good, {which}"


def _rest(loss: LossStatement) -> list[str]:
    parts: list[str] = []
    for one in loss.datasets:
        name = _words(one.dataset)
        if one.unknown_at_most is None:
            parts.append(f"how many {name} are missing is not known")
        elif one.unknown_at_most:
            parts.append(f"of {about(one.unknown_at_most)} {name} at most it is not known whether they are missing")
    losing = any(not one.is_whole for one in loss.datasets)
    whole = [_words(one.dataset) for one in loss.datasets if one.is_whole and one.recovered]
    if whole and losing:
        parts.append(f"{', '.join(whole)} fully recovered")
    part = [one for one in loss.datasets if one.unrecoverable and one.recovered]
    parts += [f"{about(one.recovered)} {_words(one.dataset)} were brought back" for one in part]
    return parts


def _basis(loss: LossStatement) -> str:
    counted = [one for one in loss.datasets if one.basis != "nothing"]
    if not counted:
        return "Nothing had to be counted."
    bounded = ", ".join(_words(one.dataset) for one in counted if one.basis == "offsets")
    if not bounded:
        by_totals = any(one.basis == "totals" for one in counted)
        return "Exact: the producers' control totals." if by_totals else "Exact: the tables were read again."
    if all(one.basis == "offsets" for one in counted):
        return f"Bounds, not counts: no control totals for {bounded}."
    return f"Exact by the producers' control totals, except {bounded}: no totals, so offsets bound it at best."


def _moved(one: Restated) -> str:
    segment = f" {one.segment}" if one.segment else ""
    return f"{one.dataset} {_words(one.column)}{segment} {change(one)} ({percent(one)})"


def _words(name: str) -> str:
    return name.replace("_", " ")


def producers(datasets: Sequence[DatasetLoss]) -> tuple[str, ...]:
    """Return who has to know that events of theirs were lost."""
    return tuple(dict.fromkeys(one.producer for one in datasets if not one.is_whole))
