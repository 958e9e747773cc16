"""The landers are stopped through their supervisor, so that nothing but containment starts them again."""

import time
from datetime import timedelta

from incident_pipelines.core.landing_watch import STALLED_AFTER
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.example.gameday.drill import LANDER, Drill
from incident_pipelines.example.gameday.scenario import Fault, Scenario
from incident_pipelines.stages.landing.state import landing_status

WAITED_AT_MOST_SECONDS = 180.0


def inject(drill: Drill) -> Fault:
    """Stop all landers; the fault is over once the rule may notice it: whoever starts them again is not us."""
    time.sleep(drill.random.uniform(0, 5))
    injured_at = drill.now()
    drill.report("stopping the landers through their supervisor")
    drill.stop(LANDER)
    # The rule asks for something to read: a partition with a lag since the landers are gone.
    waiting_since = drill.wait_for("events wait in a topic", lambda: _lag(drill) > 0, WAITED_AT_MOST_SECONDS)
    breached_at = waiting_since + STALLED_AFTER
    return Fault(
        injured_at=injured_at,
        breached_at=breached_at,
        over_at=breached_at,
        span=TimeWindow(TimeWindow.day_of(injured_at).start, injured_at + timedelta(days=1)),
    )


SCENARIO = Scenario(
    name="consumer-group-killed",
    summary="All landers are stopped; containment has to start them again, and every event has to be landed once.",
    causes=frozenset({"landing_stopped"}),
    inject=inject,
)


def _lag(drill: Drill) -> int:
    return max((one.lag or 0 for one in landing_status(drill.environment)), default=0)
