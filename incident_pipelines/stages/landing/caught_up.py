"""Waits until the landers have landed what their topics held: what they bring by themselves is not missing."""

import time
from collections.abc import Callable, Collection, Mapping

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.stages.landing.state import PartitionStatus, landing_status

POLL_SECONDS = 1.0
STUCK_SECONDS = 120.0

Report = Callable[[str], None]


def wait_until_landed(
    environment: Mapping[str, str], datasets: Collection[str], report: Report = lambda _: None
) -> None:
    """Wait until everything is landed that the topics of some datasets hold now.

    Partitions that are stopped until a person resumes them are not waited for.

    Args:
        environment: WAREHOUSE_URL and KAFKA_BOOTSTRAP_SERVERS.
        report: told how much is left, while it becomes less.

    Raises:
        SourceUnavailable: a broker or the warehouse does not answer, or nothing has moved for `STUCK_SECONDS`.
    """
    ends = {
        (one.topic, one.partition): _end(one)
        for one in landing_status(environment)
        if one.contract in datasets and one.state == "active"
    }
    least, moved = None, time.monotonic()
    while True:
        now = {(one.topic, one.partition): one for one in landing_status(environment) if one.state == "active"}
        left = sum(max(0, end - now[place].next) for place, end in ends.items() if place in now)
        if not left:
            return
        if least is None or left < least:
            least, moved = left, time.monotonic()
            report(f"waiting for the landers: at most {left:,} records are left in the topics")
        elif time.monotonic() - moved > STUCK_SECONDS:
            raise SourceUnavailable(
                f"landing has not moved for {STUCK_SECONDS:.0f} s with at most {left:,} records to come: what is "
                "missing cannot be told from what is on its way; see `incident-pipelines landing status`"
            )
        time.sleep(POLL_SECONDS)


def _end(one: PartitionStatus) -> int:
    if one.log_end is None:
        raise SourceUnavailable(f"Kafka does not say where {one.topic}[{one.partition}] ends")
    return one.log_end
