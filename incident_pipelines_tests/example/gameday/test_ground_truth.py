"""No role that a process of the system connects as can read the ground truth, neither as a file nor as a database."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from incident_pipelines.adapters.databases.postgres import driver_url
from incident_pipelines.example.gameday.true_marts import truth_database
from incident_pipelines.example.history import History
from incident_pipelines.example.records import GroundTruth
from incident_pipelines.example.visits import World
from incident_pipelines.stack.postgres import CONNECTS, OWNERS, ROLES, SUPERUSER
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack

READS = {
    "SELECT pg_read_file({path})": "permission denied for function pg_read_file",
    "SELECT pg_read_binary_file({path})": "permission denied for function pg_read_binary_file",
    "SELECT lo_import({path})": "permission denied for function lo_import",
    "SELECT pg_ls_dir({folder})": "permission denied for function pg_ls_dir",
    "COPY ledger FROM {path}": "permission denied to COPY from a file",
    "COPY ledger FROM PROGRAM {program}": "permission denied to COPY to or from an external program",
}
"""Every way in which the server reads a file for whoever asks, and what it answers those who may not."""

PLANNER = "planner"
"""Nobody connects as this role: the publisher becomes it while it plans."""


@pytest.fixture(scope="module")
def ledger() -> Iterator[Path]:
    """A ledger that the server's account could read: only the role is in the way, and no mode of a file."""
    with tempfile.TemporaryDirectory() as folder:
        truth = GroundTruth(Path(folder), durable=False)
        truth.append(History(World(1, 1.0), 0, 0).advance(5).events)
        (path,) = (Path(folder) / "ground_truth").glob("*.bin")
        for opened in (Path(folder), path.parent):
            opened.chmod(0o755)
        path.chmod(0o644)
        yield path


@contextmanager
def connected(databases: Databases, role: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of a role to a database that it may use."""
    login = "publisher" if role == PLANNER else role
    homes = (*OWNERS.items(), *((purpose, visitor) for purpose, roles in CONNECTS.items() for visitor in roles))
    purpose = next((purpose for purpose, visitor in homes if visitor == login), "warehouse")
    # Dagster's own database is the server's, and not one of a test.
    url = databases.url(purpose, login) if purpose in databases.names else databases.stack.postgres.url(purpose, login)
    with psycopg.connect(driver_url(url), autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection


def read(connection: psycopg.Connection[Any], statement: str, ledger: Path) -> None:
    values = {"path": str(ledger), "folder": str(ledger.parent), "program": f"head -c 1 {ledger} | wc -c"}
    literals = {name: sql.Literal(value) for name, value in values.items()}
    connection.execute(sql.SQL(statement).format(**literals))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_of_the_system_reads_a_file_of_the_ledger_through_the_server(
    databases: Databases, ledger: Path, role: str
) -> None:
    with connected(databases, role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        for statement, refused in READS.items():
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=refused):
                read(connection, statement, ledger)


def test_the_owner_of_the_server_reads_it_in_each_of_these_ways(databases: Databases, ledger: Path) -> None:
    with connected(databases, SUPERUSER) as connection:
        connection.execute("CREATE TEMPORARY TABLE ledger (line bytea)")
        for statement in READS:
            # A ledger is no text: what the server stumbles over has been read.
            with suppress(psycopg.errors.CharacterNotInRepertoire):
                read(connection, statement, ledger)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_of_the_system_connects_to_the_database_of_the_truth(databases: Databases, role: str) -> None:
    with truth_database(databases.url("warehouse")) as url:
        truth = driver_url(url)
        with psycopg.connect(truth) as owner:
            owner.execute("CREATE TABLE sent ()")
        with pytest.raises(psycopg.OperationalError, match='permission denied for database "ground_truth"'):
            psycopg.connect(truth, user=role)


def test_what_a_game_day_made_for_the_truth_is_gone_afterwards(databases: Databases) -> None:
    with truth_database(databases.url("warehouse")) as url:
        pass
    with pytest.raises(psycopg.OperationalError, match='database "ground_truth" does not exist'):
        psycopg.connect(driver_url(url))
