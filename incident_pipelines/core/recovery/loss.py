"""The loss statement: recovered, duplicates, unrecoverable and unknown of each dataset, and what that stands on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import Landed, RowsContract, TableSource
from incident_pipelines.core.incidents.scope import (
    CountedTotals,
    LostOffsets,
    MissingSegment,
    Scope,
    segments_told,
    worth_told,
)
from incident_pipelines.core.recovery.proof import Proof, Recounted, parts

SHOWN_SEGMENTS = 12


@dataclass(frozen=True)
class Brought:
    """What a recovery appended to the log of a dataset.

    Args:
        events: different ones, dead letters among them.
        dead_letters: of these.
    """

    events: int
    dead_letters: int


Basis = Literal["totals", "source", "offsets", "nothing"]
"""totals: the producer's control totals, exactly; source: the table itself, which was read again to its end; offsets:
those that aged out, at most; nothing: no event of it was suspected of being missing.
"""


@dataclass(frozen=True, kw_only=True)
class DatasetLoss:
    """What became of one dataset's events.

    Args:
        producer: its owner, who has to know.
        declared: events of all parts of windows that were suspect, by control totals, or where none was of all that
            were counted; None without totals.
        recovered: events brought back.
        unrecoverable: events that are gone for good: no source has them.
        unknown_at_most: events of which nobody can say whether they are missing; 0 where all is known, None: no bound.
        duplicates: copies that the log holds and published tables do not.
        sources: what was asked, in the contract's order.
        evidence: what the numbers stand on, each in one line.
        basis: what tells how many events are missing.
    """

    dataset: str
    producer: str
    declared: int | None
    recovered: int
    unrecoverable: int
    unknown_at_most: int | None
    duplicates: int = 0
    dead_letters: int = 0
    sources: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    basis: Basis = "totals"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is lost and nothing is unknown."""
        return self.unrecoverable == 0 and self.unknown_at_most == 0


@dataclass(frozen=True, kw_only=True)
class Restated:
    """A number that was published and has moved.

    Args:
        before, after: sums over the windows, as text.
    """

    dataset: str
    column: str
    segment: str
    before: str
    after: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class LossStatement:
    """What an incident has cost, as of its verification.

    Args:
        restated: sums of published marts that have moved by the recovery.
    """

    incident_id: str
    as_of: datetime
    first_lost: datetime | None
    last_lost: datetime | None
    datasets: tuple[DatasetLoss, ...]
    restated: tuple[Restated, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def recovered(self) -> int:
        """Events brought back, over all datasets."""
        return sum(one.recovered for one in self.datasets)

    @property
    def unrecoverable(self) -> int:
        """Events that are gone for good, over all datasets."""
        return sum(one.unrecoverable for one in self.datasets)

    @property
    def unknown_at_most(self) -> int | None:
        """Events that may be missing besides; None where nothing bounds them."""
        bounds = [one.unknown_at_most for one in self.datasets]
        return None if None in bounds else sum(bound or 0 for bound in bounds)

    @property
    def duplicates(self) -> int:
        """Copies in the log that published tables do not hold."""
        return sum(one.duplicates for one in self.datasets)


def loss_of(
    catalog: Catalog,
    scope: Scope,
    proof: Proof,
    brought: Mapping[str, Brought],
    duplicates: Mapping[str, int],
    restated: Sequence[Restated] = (),
    money: Mapping[str, Mapping[str, Decimal]] | None = None,
    segments: Sequence[MissingSegment] = (),
    notes: Sequence[str] = (),
) -> LossStatement:
    """Return what an incident has cost.

    Args:
        scope: the last one.
        brought: what was appended to each dataset's log on the incident's behalf, over all its plans.
        duplicates: copies in the log of each dataset's windows in scope.
        money: worth of what came back, by dataset and currency.
        segments: of what is missing still.
        notes: what could not be asked, beside those of the scope.
    """
    copied = (name for name, copies in duplicates.items() if copies)
    names = dict.fromkeys([*(one.dataset for one in proof.recounted), *brought, *copied])
    datasets: list[DatasetLoss] = []
    for name in names:
        counted = parts(proof.recounted, name)
        exact = [one for one in counted if one.missing is not None]
        inexact = [one for one in counted if one.missing is None]
        back = brought.get(name, Brought(0, 0))
        ranges = [one for one in scope.offsets if one.dataset == name]
        totals = next((one for one in scope.totals if one.dataset == name), None)
        silent = [one for one in exact if one.missing and one.silent]
        unknown: int | None = sum(one.missing or 0 for one in silent)
        # A table says by itself what belongs into its window, once all of that was read again.
        reread = is_table(catalog.landed[name]) and not any(one.silent or one.untried for one in inexact)
        if inexact and not reread:
            bound = _bound(ranges)
            unknown = None if bound is None else max(0, bound - back.events)
        gone = sum(one.missing or 0 for one in exact if not one.silent)
        declared = sum(one.declared or 0 for one in exact) if exact and not inexact else None
        if not counted and totals is not None:
            declared = totals.declared
        datasets.append(
            DatasetLoss(
                dataset=name,
                producer=catalog.landed[name].owner,
                declared=declared,
                recovered=back.events,
                unrecoverable=gone,
                unknown_at_most=unknown,
                duplicates=duplicates.get(name, 0),
                dead_letters=back.dead_letters,
                sources=_sources(catalog, name),
                evidence=(
                    *_evidence(counted, ranges, back, totals),
                    *_worth((money or {}).get(name, {})),
                    *_where(segments, name),
                    *worth_told(scope.worth, {name: gone}, "gone for good"),
                ),
                basis=_basis(counted, inexact, ranges, totals, reread=reread),
            )
        )
    return LossStatement(
        incident_id=scope.incident_id,
        as_of=proof.as_of,
        first_lost=scope.first_lost,
        last_lost=scope.last_lost,
        datasets=tuple(datasets),
        restated=tuple(restated),
        notes=tuple(dict.fromkeys((*scope.notes, *notes))),
    )


def _sources(catalog: Catalog, name: str) -> tuple[str, ...]:
    contract = catalog.landed[name]
    return contract.recovery_sources


def is_table(contract: Landed) -> bool:
    """Whether a dataset's rows are read from a table, which has them for good."""
    return isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource)


def _basis(
    counted: Sequence[Recounted],
    inexact: Sequence[Recounted],
    ranges: Sequence[LostOffsets],
    totals: CountedTotals | None,
    *,
    reread: bool,
) -> Basis:
    if inexact:
        return "source" if reread else "offsets"
    if counted or totals is not None:
        return "totals"
    return "offsets" if ranges else "nothing"


def _bound(ranges: Sequence[LostOffsets]) -> int | None:
    return sum(one.records_at_most for one in ranges) if ranges else None


def _evidence(
    counted: Sequence[Recounted], ranges: Sequence[LostOffsets], back: Brought, totals: CountedTotals | None
) -> list[str]:
    lines: list[str] = []
    if totals is not None and not counted:
        lines.append(
            f"{totals.windows} windows counted against the producer's control totals: no event is missing that was not "
            "stated before"
        )
    exact = sum(one.missing is not None for one in counted)
    if exact:
        lines.append(f"{exact} parts of windows counted again against the producer's control totals")
    if exact < len(counted):
        lines.append(
            f"{len(counted) - exact} parts of windows without control totals: nobody declared how many there are"
        )
    if ranges:
        records = sum(one.records_at_most for one in ranges)
        lines.append(f"{len(ranges)} ranges of offsets aged out, at most {records:,} records")
    if back.events:
        lines.append(f"{back.events:,} events appended under the incident's own origin of the landing log")
    if back.dead_letters:
        lines.append(f"{back.dead_letters:,} of them break their contract: they are dead letters")
    return lines


def _where(segments: Sequence[MissingSegment], name: str) -> list[str]:
    own = [one for one in segments if one.dataset == name]
    return [f"still missing by segment, dead letters among them: {segments_told(own, SHOWN_SEGMENTS)}"] if own else []


def _worth(money: Mapping[str, Decimal]) -> list[str]:
    if not money:
        return []
    amounts = " + ".join(f"{amount:,.2f} {currency}".strip() for currency, amount in money.items())
    return [f"what came back is worth {amounts}, by the reconciliation that compares it"]
