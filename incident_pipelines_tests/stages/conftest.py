"""What several modules of this folder compare tables with."""

from collections.abc import Iterator

import pytest

from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.compared_tables import Duckdb, Engine, Postgres, Sqlite


@pytest.fixture(scope="module")
def engines(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    postgres = Postgres(databases.url("app"))
    folder = tmp_path_factory.mktemp("engines")
    yield {"postgres": postgres, "duckdb": Duckdb(folder), "sqlite": Sqlite(folder)}
    postgres.close()
