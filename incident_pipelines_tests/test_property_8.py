"""What `property_8` takes out is still there: else the drill would find out only when somebody runs it."""

import re

import pytest

from incident_pipelines_tests.property_8 import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_to_be_taken_out_is_there_and_so_is_its_test(mutation: Mutation) -> None:
    for name, text, _ in mutation.changes:
        assert text in (ROOT / name).read_text(encoding="utf-8")
    name, _, test = mutation.test.partition("::")
    assert re.search(rf"^def {test}\(", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
