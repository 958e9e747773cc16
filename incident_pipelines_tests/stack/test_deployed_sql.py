"""A stack reads the SQL that ships through a link that can be moved, and the next start moves back."""

from pathlib import Path

from incident_pipelines.adapters.catalog_files import load_catalog, sql_folder
from incident_pipelines.stack.deployed_sql import deploy_shipped_sql, deploy_sql
from incident_pipelines.stack.locations import Home


def test_the_link_is_moved_as_a_whole_and_back(tmp_path: Path) -> None:
    home, other = Home.at(tmp_path), tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        deploy_shipped_sql(home)
        assert home.sql.resolve() == sql_folder({}).resolve()
    assert load_catalog({"INCIDENT_PIPELINES_SQL": str(home.sql)}).marts == load_catalog({}).marts
    deploy_sql(home, other)
    assert home.sql.resolve() == other.resolve()
    deploy_shipped_sql(home)
    assert home.sql.resolve() == sql_folder({}).resolve()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other", "sql"]
