"""Which game days there are; a new one is a module with a `Scenario`, and a line here."""

from collections.abc import Mapping

from incident_pipelines.example.gameday import (
    accidental_delete,
    consumer_group_killed,
    duplicate_producer,
    price_bug,
    retention,
)
from incident_pipelines.example.gameday.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    one.name: one
    for one in (
        retention.MISCONFIGURED,
        retention.GUARDED,
        consumer_group_killed.SCENARIO,
        accidental_delete.SCENARIO,
        price_bug.SCENARIO,
        duplicate_producer.SCENARIO,
    )
}
