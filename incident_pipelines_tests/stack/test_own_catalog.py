"""A catalog of one's own brings its addresses to those that read sources alone, and nothing of the example."""

from pathlib import Path

import pytest

from incident_pipelines.stack.environment import environment_for
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.own_catalog import own_variables
from incident_pipelines.stack.postgres import PostgresServer
from incident_pipelines.stack.state import StackState

_CATALOG = "name: shop\ndescription: x\nstart: 2026-11-01T00:00:00Z\nsources:\n  till: TILL_URL\n"


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sql").mkdir()
    (tmp_path / "catalog.yaml").write_text(_CATALOG)
    return {"INCIDENT_PIPELINES_CATALOG": str(tmp_path), "INCIDENT_PIPELINES_SQL": str(tmp_path / "sql")}


def test_only_readers_of_sources_get_their_addresses(folders: dict[str, str], tmp_path: Path) -> None:
    own = own_variables({**folders, "TILL_URL": "sqlite:///t", "KAFKA_BOOTSTRAP_SERVERS": "k:1", "OTHER": "x"}, False)
    assert own == {**folders, "TILL_URL": "sqlite:///t", "KAFKA_BOOTSTRAP_SERVERS": "k:1"}
    state = StackState("2026-10-01", example=False, own=own)
    home = Home.at(tmp_path / "home")
    server = PostgresServer(home.postgres_data, home.socket_folder, 5000, None)
    got = {
        role: environment_for(role, home, server, "k:1", state) for role in ("lander", "monitor", "publisher", "owner")
    }
    for role, variables in got.items():
        assert ("TILL_URL" in variables) == (role in ("publisher", "owner"))
        assert variables["INCIDENT_PIPELINES_CATALOG"] == str(tmp_path)
        # The catalog's own start counts, and nothing of the example is there.
        assert not {"INCIDENT_PIPELINES_START", "APP_DATABASE_URL", "BILLING_DATABASE_URL", "APP_AUDIT_LOG"} & set(
            variables
        )


def test_what_is_missing_is_named(folders: dict[str, str], tmp_path: Path) -> None:
    assert own_variables({"TILL_URL": "sqlite:///t"}, example=False) == {}
    with pytest.raises(StackError, match="source till cannot be reached: TILL_URL is not set"):
        own_variables(folders, example=False)
    with pytest.raises(StackError, match="INCIDENT_PIPELINES_SQL names no folder"):
        own_variables({"INCIDENT_PIPELINES_CATALOG": str(tmp_path)}, example=False)
    (tmp_path / "catalog.yaml").write_text(_CATALOG.replace("TILL_URL", "WAREHOUSE_URL"))
    with pytest.raises(StackError, match="WAREHOUSE_URL, which the stack sets itself"):
        own_variables(folders, example=False)
    (tmp_path / "catalog.yaml").write_text("nme: shop\n")
    with pytest.raises(StackError, match=r"catalog.yaml:1: nme: not known"):
        own_variables(folders, example=False)


def test_a_state_with_addresses_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.create()
    state = StackState("2026-10-01", own={"TILL_URL": "postgresql://me:secret@host/db"})
    state.save(home)
    assert home.state_file.stat().st_mode & 0o077 == 0
    assert StackState.load(home) == state
