"""What a game day is: a fault that is real, when it is over, and what the truth says about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.example.gameday.drill import Drill

SIGNAL_WITHIN = timedelta(seconds=60)
CONTAINED_WITHIN = timedelta(seconds=10)
"""From the signal: what is known to be wrong is not left as it is while it is looked into."""

RECOVERED_WITHIN = timedelta(minutes=5)
"""SPEC §9: goals for drills of up to 300,000 events."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault as it was done.

    Args:
        injured_at: when the fault was made; aware.
        breached_at: since when it breaks the rule that has to notice it, and the rule may say so.
        over_at: since when nothing holds the fault any more.
        span: of the events that it may have touched, by their own time; what is compared with the truth.
        affected: by dataset, the ids of the events that it has touched.
        loses: datasets of which events may be gone for good; of all others everything has to come back.
        aged_out: the broker decided which of `affected` were touched: those that no lander ever landed.
        noticed_from: since when the system may notice it; if absent, once it is broken and nothing holds it.
        copies: by dataset, how many events were sent again.
        seen_wrong: rows that a reader has seen wrong while the fault lasted.
    """

    injured_at: datetime
    breached_at: datetime
    over_at: datetime
    span: TimeWindow
    affected: Mapping[str, frozenset[bytes]] = field(default_factory=dict[str, frozenset[bytes]])
    loses: frozenset[str] = frozenset()
    aged_out: bool = False
    noticed_from: datetime | None = None
    copies: Mapping[str, int] = field(default_factory=dict[str, int])
    seen_wrong: int = 0

    @property
    def ended_at(self) -> datetime:
        """Since when the system can mend it: the rule is broken, and nothing holds the fault."""
        return max(self.breached_at, self.over_at)

    @property
    def speaks_at(self) -> datetime:
        """Since when the system can notice it."""
        return self.noticed_from or self.ended_at


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One game day.

    Args:
        name: as the command line knows it.
        summary: one sentence.
        causes: classes of causes that the incident may have (`core.incidents.causes`).
        inject: makes the fault, and returns once it is over; whatever it changes it promises to put back.
    """

    name: str
    summary: str
    causes: frozenset[str]
    inject: Callable[[Drill], Fault]
