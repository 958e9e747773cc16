"""What a recovery is proved by: the exact scope counted again, windows published twice, sides compared again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from incident_pipelines.core.windows import TimeWindow


@dataclass(frozen=True)
class Unread:
    """A span of a source that a replay could not read to its end: what else it holds there is not known.

    Args:
        told: what the source answered.
    """

    dataset: str
    window: TimeWindow
    source: str
    told: str


@dataclass(frozen=True)
class Replayed:
    """What carrying out a plan has left open.

    Args:
        digest: of the plan.
    """

    digest: str
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True)
class Recounted:
    """A part of a window, counted again after the recovery.

    Args:
        declared: control total; None where there is none.
        before, after: different events that the log had when it was scoped, and has now; None where unknown.
        silent: sources that did not answer, or not to their end, and so may still have what is missing.
        untried: sources that have something of it and were not replayed.
        stated: events that earlier incidents have stated to be gone for good.
        unread: of the silent sources, those that broke off while they were replayed.
    """

    dataset: str
    window: TimeWindow
    declared: int | None
    before: int | None
    after: int | None
    silent: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()
    stated: int = 0
    unread: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether events are missing, or may be in a source that broke off."""
        return bool(self.missing or (self.missing is None and self.unread))

    @property
    def missing(self) -> int | None:
        """Events that are still missing; None where nobody declared how many there are."""
        if self.declared is None or self.after is None:
            return None
        return max(0, self.declared - self.after - self.stated)


@dataclass(frozen=True)
class Differing:
    """Rows that do not agree although all that was planned is replayed and published.

    Args:
        windows: in which they may lie; all time where sides were compared whole, or by when rows were changed.
    """

    reconciliation: str
    rows: int
    windows: tuple[TimeWindow, ...]

    @property
    def told(self) -> str:
        """It in one line."""
        return f"{self.reconciliation}: {self.rows} rows still differ"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a verification went.

    Args:
        position: of the log when it was counted: dataset, origin and partition → next position.
        recounted: every suspect part.
        windows: published a second time, and how many rows they hold.
        changed: rows that the second publish changed where the log had not moved: must be 0.
        unproven: what speaks against it, each in one line.
        differing: what reconciliations found that does not agree.
        compared: what reconciliations found in the scope, each in one line.
    """

    incident_id: str
    revision: int
    as_of: datetime
    position: tuple[tuple[str, int], ...] = ()
    recounted: tuple[Recounted, ...] = ()
    windows: int = 0
    rows: int = 0
    changed: int = 0
    unproven: tuple[str, ...] = ()
    differing: tuple[Differing, ...] = ()
    compared: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Events that are known to be missing still."""
        return sum(one.missing or 0 for one in self.recounted)

    @property
    def against(self) -> tuple[str, ...]:
        """All that speaks against it, each in one line."""
        silent = (f"{name} does not answer" for name in self.silent)
        return (*self.unproven, *(one.told for one in self.differing), *silent)

    @property
    def is_left_to_others(self) -> bool:
        """Whether all that this recovery could do is done and right, and the rows that differ are not its own."""
        return bool(self.differing) and len(self.against) == len(self.differing) and not self.may_go_on

    @property
    def may_go_on(self) -> bool:
        """Whether there is a source for what is still open that has not been read to its end."""
        return any(one.untried for one in self.recounted if one.is_open)

    @property
    def silent(self) -> tuple[str, ...]:
        """Sources that did not answer about something that is still missing, or may be."""
        return tuple(dict.fromkeys(name for one in self.recounted if one.missing != 0 for name in one.silent))


def parts(recounted: Iterable[Recounted], dataset: str) -> list[Recounted]:
    """Return those of one dataset."""
    return [one for one in recounted if one.dataset == dataset]
