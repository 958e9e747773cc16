"""Which open incident a signal belongs to."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.core.incidents.causes import CauseRule, rule_of, severity_of
from incident_pipelines.core.incidents.incident import Incident, RaisedSignal
from incident_pipelines.core.incidents.scope import strategy_of
from incident_pipelines.core.incidents.severity import graver
from incident_pipelines.core.incidents.transitions import REOPENED_BY_GROWTH
from incident_pipelines.core.reconciliation.declaration import Side
from incident_pipelines.core.windows import TimeWindow

Relations = Mapping[str, frozenset[str]]
"""Name of a dataset or a reconciliation → the datasets it is made from, that are made from it, or that it compares."""

_PUBLISHED = re.compile(r'\b(?:raw|marts|landing)"?\."?([a-z_][a-z0-9_]*)')


def relations(catalog: Catalog) -> Relations:
    """Return which names of a catalog share data; each is related to itself."""
    found: dict[str, set[str]] = {name: {name} for name in (*catalog.landed, *catalog.marts)}
    for name, mart in catalog.marts.items():
        for given in mart.contract.inputs:
            found[name].add(given)
            found[given].add(name)
    for name, declared in catalog.reconciliations.items():
        compared = {
            dataset for side in (declared.source, declared.target) for dataset in _datasets_of_side(catalog, side)
        }
        inputs = {given for one in compared if one in catalog.marts for given in catalog.marts[one].contract.inputs}
        found[name] = {name} | compared | inputs
    return {name: frozenset(others) for name, others in found.items()}


def datasets_of(catalog: Catalog, name: str) -> tuple[str, ...]:
    """Return the datasets that a signal's name stands for: itself, or what a reconciliation compares."""
    declared = catalog.reconciliations.get(name)
    if declared is None or name in catalog.landed or name in catalog.marts:
        return (name,)
    compared = (*_datasets_of_side(catalog, declared.source), *_datasets_of_side(catalog, declared.target))
    return tuple(dict.fromkeys(compared)) or (name,)


def incident_for(
    signal: RaisedSignal, datasets: Iterable[str], open_incidents: Iterable[Incident], related: Relations
) -> Incident | None:
    """Return the incident that a signal joins; None if it opens one.

    A signal joins an open incident of its cause that touches the same data (as far as the cause reaches), if their
    windows overlap or touch, one of them names none, or they come close together. Where no incident has its cause, a
    mere symptom joins one of another cause. Of several the one that was opened first.

    Args:
        datasets: that the signal is about.
        open_incidents: in the order in which they were opened.
    """
    rule = rule_of(signal.kind)
    touched = tuple(datasets)
    candidates = [one for one in open_incidents if one.is_open]
    for incident in candidates:
        if (
            incident.cause == rule.cause
            and _reaches(rule, touched, incident, related)
            and _near(rule, signal, incident)
        ):
            return incident
    if not rule.symptom:
        return None
    touching = [one for one in candidates if _reaches(rule, (signal.dataset, *touched), one, related)]
    meeting = [one for one in touching if _windows_meet(signal.window, one.window)]
    # One that names its window says more than one that names none.
    return next((one for one in meeting if one.window is not None), meeting[0] if meeting else None)


def hull(one: TimeWindow | None, other: TimeWindow | None) -> TimeWindow | None:
    """Return the smallest window that holds both; of nothing and a window the window."""
    if one is None or other is None:
        return one or other
    return TimeWindow(min(one.start, other.start), max(one.end, other.end))


def grown(
    incident: Incident,
    signal: RaisedSignal,
    datasets: Iterable[str],
    published: bool,
    joined: Collection[tuple[str, TimeWindow | None]],
) -> Incident:
    """Return an incident as it is with one more signal; severity only rises.

    A symptom of another cause says that something is wrong, and not where the cause has been: it widens nothing.

    Args:
        datasets: that the signal is about.
        published: they are published numbers.
        joined: dataset and window of each signal of this kind that has joined before.
    """
    last = incident.last_signal_at
    known = replace(
        incident,
        severity=graver(incident.severity, severity_of(signal, published)),
        began_at=min(incident.began_at, signal.occurred_at),
        last_signal_at=signal.occurred_at if last is None else max(last, signal.occurred_at),
        signals=incident.signals + 1,
    )
    rule = rule_of(signal.kind)
    if rule.symptom and rule.cause != incident.cause:
        return known
    affected = tuple(dict.fromkeys((*incident.datasets, *datasets)))
    window = hull(incident.window, signal.window)
    # What has happened once more, and nobody knows where, may lie beyond what is being scoped: records that aged out.
    again = incident.state != "detected" and signal.window is None and not rule.clears
    # Of some causes the very windows that signals name are contained and repaired, and nothing between them.
    by_window = strategy_of(incident.cause, incident.type) in ("rebuild", "wait") and signal.window is not None
    another = by_window and incident.signals > 0 and (signal.dataset, signal.window) not in joined
    widened = affected != incident.datasets or window != incident.window or again or another
    return replace(known, datasets=affected, window=window, revision=incident.revision + int(widened))


def reopens(before: Incident, after: Incident) -> bool:
    """Return whether a signal that has joined means that an incident begins again: see `REOPENED_BY_GROWTH`."""
    return before.state == "recovered" or (before.state in REOPENED_BY_GROWTH and after.revision != before.revision)


def _reaches(rule: CauseRule, touched: tuple[str, ...], incident: Incident, related: Relations) -> bool:
    affected = set(incident.datasets)
    match rule.reach:
        case "platform":
            return True
        case "dataset":
            return not affected.isdisjoint(touched)
        case "lineage":
            return any(
                one == other or other in related.get(one, ()) or one in related.get(other, ())
                for one in touched
                for other in affected
            )


def _near(rule: CauseRule, signal: RaisedSignal, incident: Incident) -> bool:
    if _windows_meet(signal.window, incident.window):
        return True
    last = incident.last_signal_at or incident.began_at
    return abs(signal.occurred_at - last) <= max(rule.together, timedelta(0))


def _windows_meet(one: TimeWindow | None, other: TimeWindow | None) -> bool:
    return one is None or other is None or (one.start <= other.end and other.start <= one.end)


def _datasets_of_side(catalog: Catalog, side: Side) -> tuple[str, ...]:
    named = [side.table] if side.table else []
    text = catalog.reconciliation_sql.get(side.sql, "") if side.sql else ""
    named_in_sql: list[str] = _PUBLISHED.findall(" ".join((text, *named)))
    known = [name for name in named_in_sql if name in catalog.landed or name in catalog.marts]
    for contract in catalog.landed.values():
        match contract:
            case RowsContract(origin=TableSource(source=source, schema=schema, table=table)):
                if source == side.source and side.table in (f"{schema}.{table}", table):
                    known.append(contract.name)
            case _:
                pass
    return tuple(dict.fromkeys(known))
