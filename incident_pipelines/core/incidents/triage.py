"""The five questions of triage: what data, who is affected, since when, still going on, what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Contract
from incident_pipelines.core.incidents.causes import rule_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.response_times import duration_text
from incident_pipelines.core.incidents.scope import Scope
from incident_pipelines.core.windows import HOUR, TimeWindow

_FAR_FUTURE = 9000
_SHOWN_SEGMENTS = 6


@dataclass(frozen=True)
class Audience:
    """Who has to know about a dataset.

    Args:
        downstream: it is made from what is affected.
    """

    dataset: str
    owner: str
    consumers: tuple[str, ...]
    downstream: bool


@dataclass(frozen=True)
class Triage:
    """Answers, each in lines that stand on their own."""

    what_data: tuple[str, ...]
    who_is_affected: tuple[str, ...]
    since_when: tuple[str, ...]
    still_going_on: tuple[str, ...]
    what_it_costs: tuple[str, ...]


def audiences(catalog: Catalog, datasets: Sequence[str]) -> tuple[Audience, ...]:
    """Return owner and consumers of what is affected, and of the marts that are made from it."""
    contracts: dict[str, Contract] = {
        **catalog.landed,
        **{name: mart.contract for name, mart in catalog.marts.items()},
    }
    found: dict[str, Audience] = {}
    for name in datasets:
        contract = contracts.get(name)
        found[name] = (
            Audience(name, "not in the catalog", (), False)
            if contract is None
            else Audience(name, contract.owner, contract.consumers, False)
        )
    for name in datasets:
        for mart in catalog.downstream(name):
            found.setdefault(mart.name, Audience(mart.name, mart.owner, mart.consumers, True))
    return tuple(found.values())


def triage(
    incident: Incident,
    signals: Sequence[RaisedSignal],
    told: Sequence[Audience],
    now: datetime,
    scope: Scope | None = None,
) -> Triage:
    """Return the answers as far as anything is known; what is not known is said to be so.

    Args:
        scope: the last one; None before there is one.
    """
    return Triage(
        (*_what_data(incident, signals), *_missing(scope)),
        _who(told),
        _since_when(incident, now),
        _still_going_on(incident, signals, now),
        _costs(signals, scope),
    )


def window_text(window: TimeWindow | None) -> str:
    """Return a window as a person reads it."""
    if window is None:
        return "no window of time is named"
    if window.end.year >= _FAR_FUTURE:
        return f"{window.start:%Y-%m-%d %H:%M} UTC and all after it"
    if window.end - window.start <= HOUR or window.start.date() == window.end.date():
        return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%H:%M} UTC"
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"


def _what_data(incident: Incident, signals: Sequence[RaisedSignal]) -> tuple[str, ...]:
    if not incident.datasets:
        return ("no dataset was named",)
    lines: list[str] = []
    for dataset in incident.datasets:
        own = [signal for signal in signals if signal.dataset == dataset]
        figures = "; ".join(_figures(own))
        lines.append(f"{dataset}: {figures}" if figures else dataset)
    others = [signal for signal in signals if signal.dataset not in incident.datasets]
    lines += [f"{name}: {'; '.join(figures)}" for name, figures in _by_dataset(others).items() if figures]
    lines.append(f"window: {window_text(incident.window)}")
    return tuple(lines)


def _missing(scope: Scope | None) -> tuple[str, ...]:
    if scope is not None and scope.strategy == "person":
        return tuple(f"not scoped: {note}" for note in scope.notes)
    if scope is None or not scope.suspects:
        return ()
    return (f"missing when it was scoped: {scope.counted()}", *scope.where(_SHOWN_SEGMENTS))


def _by_dataset(signals: Sequence[RaisedSignal]) -> dict[str, list[str]]:
    names = dict.fromkeys(signal.dataset for signal in signals)
    return {name: _figures([signal for signal in signals if signal.dataset == name]) for name in names}


def _figures(signals: Sequence[RaisedSignal]) -> list[str]:
    """Return what signals of one dataset count, each kind in its own terms."""
    found: list[str] = []
    for kind in dict.fromkeys(signal.kind for signal in signals):
        same = [signal for signal in signals if signal.kind == kind]
        match kind:
            case "offsets_aged_out":
                partitions = _counted(len(_values(same, "partition")), "partition")
                found.append(
                    f"at most {_sum(same, 'records_at_most'):,} records of {partitions} aged out "
                    "(offset gaps bound a loss, they do not count it)"
                )
            case "window_refused":
                rules = sorted({rule for signal in same for rule in _rules(signal)})
                windows = len({signal.window for signal in same})
                found.append(
                    f"{_counted(windows, 'window')} refused by {', '.join(rules) or 'rules that were not given'}"
                )
            case "window_changed_outside":
                windows = len({signal.window for signal in same})
                rows = _sum(same, "rows_found") - _sum(same, "rows_stored")
                found.append(f"{_counted(windows, 'window')} changed, {rows:+,} rows against what was published")
            case "only_copy_expiring":
                found.append(f"{_sum(same, 'events'):,} events that one source alone still holds")
            case "reconciliation_gap":
                last = same[-1]
                sides = ", ".join(f"{_number(last, k):,} {k}" for k in ("missing", "unexpected", "mismatched"))
                found.append(f"{sides} rows in the last comparison")
            case _:
                found.append(f"{_counted(len(same), 'signal')} {kind}")
    return found


def _who(told: Sequence[Audience]) -> tuple[str, ...]:
    return tuple(
        f"{one.dataset}{' (downstream)' if one.downstream else ''}: owner {one.owner}"
        + (f"; consumers {', '.join(one.consumers)}" if one.consumers else "; no consumers are declared")
        for one in told
    ) or ("nobody is known: no dataset was named",)


def _since_when(incident: Incident, now: datetime) -> tuple[str, ...]:
    began = f"{incident.began_at:%Y-%m-%d %H:%M:%S} UTC, {duration_text(now - incident.began_at)} ago"
    noticed = incident.detected_at - incident.began_at
    if incident.source == "person" and incident.began_at == incident.detected_at:
        return (f"not known; reported {began}",)
    return (began, f"detected {duration_text(noticed)} later, {incident.detected_at:%Y-%m-%d %H:%M:%S} UTC")


def _still_going_on(incident: Incident, signals: Sequence[RaisedSignal], now: datetime) -> tuple[str, ...]:
    lines: list[str] = []
    clearing = [signal for signal in signals if rule_of(signal.kind).clears]
    lasting = [signal for signal in clearing if signal.cleared_at is None]
    if incident.state in ("recovered", "resolved", "reviewed"):
        by_hand = " by a person's word, not proven" if incident.resolution == "by_hand" else ""
        lines.append(f"no: {incident.state}{by_hand}")
    elif clearing and not lasting and len(clearing) == len(signals):
        lines.append("no signal lasts any more; not yet proven right")
    elif incident.contained_at is not None and incident.state != "detected":
        later = incident.last_signal_at is not None and incident.last_signal_at > incident.contained_at
        at = f"{incident.contained_at:%H:%M:%S}"
        lines.append(f"yes: signals came after containment at {at}" if later else f"contained since {at} UTC")
    else:
        lines.append("yes, as far as is known: not contained")
    if clearing:
        lines.append(f"{len(lasting)} of {len(clearing)} signals that clear by themselves still last")
    if incident.last_signal_at is not None:
        lines.append(f"last signal {duration_text(now - incident.last_signal_at)} ago")
    if incident.stopped_at is not None:
        ago = duration_text(now - incident.stopped_at)
        lines.append(f"STOPPED {ago} ago by {incident.stopped_by}: {incident.stopped_because}")
    return tuple(lines)


def _costs(signals: Sequence[RaisedSignal], scope: Scope | None) -> tuple[str, ...]:
    money: dict[str, dict[str, Decimal]] = {}
    for signal in signals:
        stakes = signal.detail.get("money_at_stake")
        if isinstance(stakes, dict):  # the last comparison of each pair counts: they tell the same differences again
            money[signal.dataset] = _amounts(cast(Mapping[str, Any], stakes))
    lines = tuple(
        f"{' + '.join(f'{amount:,.2f} {currency}'.strip() for currency, amount in amounts.items())} at stake by {name}"
        for name, amounts in money.items()
        if amounts
    )
    lines += scope.stakes() if scope is not None else ()
    if lines:
        return lines
    if scope is None:
        return ("not known yet: none of its signals names money",)
    return ("no money is known to be at stake: no reconciliation says what a row of its datasets is worth",)


def _amounts(stakes: Mapping[str, Any]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for currency, amount in stakes.items():
        try:
            found[currency] = Decimal(str(amount))
        except InvalidOperation:
            continue
    return {currency: amount for currency, amount in found.items() if amount.is_finite()}


def _rules(signal: RaisedSignal) -> list[str]:
    rules = signal.detail.get("failed_rules")
    if not isinstance(rules, list):
        return []
    named = [cast(dict[str, Any], rule) for rule in cast(list[Any], rules) if isinstance(rule, dict)]
    return [str(rule.get("rule", "?")) for rule in named]


def _values(signals: Sequence[RaisedSignal], name: str) -> set[str]:
    return {f"{signal.detail.get('topic')}:{signal.detail.get(name)}" for signal in signals}


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _sum(signals: Sequence[RaisedSignal], name: str) -> int:
    return sum(_number(signal, name) for signal in signals)


def _number(signal: RaisedSignal, name: str) -> int:
    value = signal.detail.get(name)
    return value if isinstance(value, int) else 0
