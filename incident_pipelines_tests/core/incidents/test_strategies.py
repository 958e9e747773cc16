"""How an incident is brought to its end, by what is known of its cause."""

import pytest

from incident_pipelines.core.incidents.causes import CAUSES, REPORTED
from incident_pipelines.core.incidents.incident import INCIDENT_TYPES, IncidentType
from incident_pipelines.core.incidents.scope import STRATEGIES, strategy_of


def test_of_what_a_person_opens_the_type_decides() -> None:
    assert {kind: strategy_of(REPORTED, kind) for kind in INCIDENT_TYPES} == {
        "data_loss": "replay",
        "corruption": "rebuild",
        "breach": "person",
        "pipeline_failure": "catch_up",
        "breaking_schema_change": "person",
        "quality_degradation": "rebuild",
        "freshness_violation": "catch_up",
    }


def test_every_cause_that_signals_have_is_brought_to_its_end_by_the_system() -> None:
    assert {rule.cause for rule in CAUSES.values()} == set(STRATEGIES)


@pytest.mark.parametrize("kind", INCIDENT_TYPES)
def test_what_nobody_knows_stays_with_a_person(kind: IncidentType) -> None:
    assert strategy_of("never_heard_of", kind) == "person"
