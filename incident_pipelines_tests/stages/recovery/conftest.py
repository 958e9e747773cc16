"""The shop whose incidents are recovered."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.recovery_shop import Shop, open_shop


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic("orders")


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path, topic: str, rng: random.Random) -> Iterator[Shop]:
    opened = open_shop(own_databases, tmp_path, topic, rng)
    yield opened
    opened.close()
