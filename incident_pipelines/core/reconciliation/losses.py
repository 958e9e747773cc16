"""Which differences a stated loss accounts for: so many at most as events are gone, and only where they are gone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.incidents.scope import downstream_of
from incident_pipelines.core.reconciliation.catalog import tables_of
from incident_pipelines.core.reconciliation.comparison import Kind
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE, Reconciliation
from incident_pipelines.core.windows import TimeWindow


@dataclass(frozen=True)
class StatedLoss:
    """Events that are gone for good, as they show in a reconciliation.

    Args:
        incident_id: that has stated it.
        window: in which the rows lie that lack them.
        events: how many are gone: it accounts for so many differences at most, and for none if there are more.
        kinds: of differences that it accounts for.
    """

    incident_id: str
    window: TimeWindow
    events: int
    kinds: tuple[Kind, ...] = ("missing",)


def losses_in(
    catalog: Catalog, declared: Reconciliation, incident_id: str, gone: Iterable[tuple[str, TimeWindow, int]]
) -> tuple[StatedLoss, ...]:
    """Return what a loss may leave in a reconciliation whose target is made from what was lost.

    A row of raw is missing in the hour of its event. A row of a mart may be missing or have other values, on the days
    that are made from it. What touches is one loss: a row and its event may lie on either side of an hour's end.

    Args:
        gone: dataset, part of a window of it, and the number of its events that no source has.
    """
    if declared.target.source != WAREHOUSE:
        return ()
    tables = tables_of(declared.target, catalog.reconciliation_sql)
    landed = {name for schema, name in tables if schema in ("raw", "landing")}
    marts = {name for schema, name in tables if schema == "marts"}
    kinds: tuple[Kind, ...] = ("missing",)
    found: list[StatedLoss] = []
    for dataset, window, events in gone:
        days = [one.window for one in downstream_of(catalog, [(dataset, window)], window.end) if one.dataset in marts]
        if days:
            kinds = ("missing", "mismatched")
        lies_in = [*days, *([window] if dataset in landed else [])]
        if lies_in:
            span = TimeWindow(min(one.start for one in lies_in), max(one.end for one in lies_in))
            found.append(StatedLoss(incident_id, span, events))
    merged: list[StatedLoss] = []
    for loss in sorted(found, key=lambda one: one.window):
        if merged and loss.window.start <= merged[-1].window.end:
            last = merged.pop()
            span = TimeWindow(last.window.start, max(last.window.end, loss.window.end))
            loss = replace(last, window=span, events=last.events + loss.events)
        merged.append(loss)
    return tuple(replace(one, kinds=kinds) for one in merged)
