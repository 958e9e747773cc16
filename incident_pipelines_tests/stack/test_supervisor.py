"""supervisord's configuration: what it reads is what was meant."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from incident_pipelines.stack import services
from incident_pipelines.stack.environment import ROLE_DATABASES, environment_for
from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.postgres import PostgresServer
from incident_pipelines.stack.programs import PROGRAM_VARIABLE, Program
from incident_pipelines.stack.state import StackState
from incident_pipelines.stack.supervisor import Supervisor


def _read_back(home: Home) -> dict[str, Any]:
    options = ServerOptions()
    options.realize(args=["-c", str(home.supervisor_config)])
    return {group.name: group for group in options.process_group_configs}


def test_commands_and_variables_survive_quotes_spaces_and_percent_signs(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    home.create()
    odd = ("/bin/echo", "with space", 'a "quote"', "100%", "back\\slash", "it's", "--n={number}")
    program = Program("odd", odd, members=2)
    Supervisor(home).write_config([(program, {"A": "50% of 'it' all", "B": 'say "x", y', "C": "a=b;c#d"})])
    group = _read_back(home)["odd"]
    configs = group.process_configs
    assert [config.name for config in configs] == ["0", "1"]
    assert tuple(shlex.split(configs[1].command)) == (*odd[:-1], "--n=1")
    assert configs[0].environment == {
        "A": "50% of 'it' all",
        "B": 'say "x", y',
        "C": "a=b;c#d",
        PROGRAM_VARIABLE: "odd",
    }


@pytest.mark.parametrize("value", ["two\nlines", "cut ;here", "cut #here", "both ' and \" in it", "'quoted'"])
def test_what_supervisord_would_garble_is_refused(tmp_path: Path, value: str) -> None:
    home = Home.at(tmp_path)
    home.create()
    with pytest.raises(StackError, match="cannot pass this on"):
        Supervisor(home).write_config([(Program("odd", ("/bin/true",)), {"A": value})])


def test_a_stale_pid_file_names_no_supervisor(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    home.create()
    supervisor = Supervisor(home)
    for content in ("", "text", "1", "999999999"):
        home.supervisor_pid_file.write_text(content)
        assert supervisor.pid is None
    assert not supervisor.answers()


def test_every_service_has_its_own_name_and_a_known_role(tmp_path: Path) -> None:
    state = StackState(start="2025-01-01", landers=3)
    programs = services.services_of(Home.at(tmp_path), state)
    names = [name for program in programs for name in program.process_names]
    assert len(names) == len(set(names))
    assert {"lander:0", "lander:1", "lander:2", "monitor", "dagster-code", "keeper"} <= set(names)
    assert {program.role for program in programs} <= {None, *ROLE_DATABASES}
    without = services.services_of(Home.at(tmp_path), StackState(start="2025-01-01", example=False))
    assert len(without) < len(programs)


def test_a_process_gets_the_addresses_of_its_role_only(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    server = PostgresServer(home.postgres_data, home.socket_folder, 5000, None)
    lander = environment_for("lander", home, server, "127.0.0.1:9092", StackState("2025-01-01"))
    assert lander["WAREHOUSE_URL"] == "postgresql+psycopg://lander@127.0.0.1:5000/warehouse"
    assert "APP_DATABASE_URL" not in lander
    assert "DAGSTER_POSTGRES_URL" not in lander
    publisher = environment_for("publisher", home, server, "127.0.0.1:9092", StackState("2025-01-01"))
    assert publisher["APP_DATABASE_URL"] == "postgresql+psycopg://source_reader@127.0.0.1:5000/app"
    assert publisher["DAGSTER_POSTGRES_URL"].startswith("postgresql+psycopg2://")
