"""Ids from content."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from incident_pipelines.example import identities


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_name_based_ids_are_uuid5(name: str) -> None:
    assert identities.name_based_id(name) == str(uuid.uuid5(identities.NAMESPACE, name))


def test_an_event_id_comes_from_correlation_id_type_and_sequence() -> None:
    expected = uuid.uuid5(identities.NAMESPACE, "b31ddc60-d0ae-56bf-96be-97ac3b61afc3:payment_captured:1")
    assert identities.event_id("b31ddc60-d0ae-56bf-96be-97ac3b61afc3", "payment_captured", 1) == str(expected)
