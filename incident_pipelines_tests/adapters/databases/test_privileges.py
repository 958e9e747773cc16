"""Containment takes privileges away by key, gives back what it took, and touches nobody it must not."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.databases.privileges import (
    Revocation,
    restore_privileges,
    revoke_access,
    revoke_writes,
)
from incident_pipelines.core.errors import InvalidIdentifier
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines_tests.builders import orders_catalog
from incident_pipelines_tests.conftest import Databases

pytestmark = pytest.mark.stack

Owner = psycopg.Connection[Any]
TABLE = "raw.orders"


@pytest.fixture(scope="module")
def owner(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    catalog, _ = orders_catalog(Path(tmp_path_factory.mktemp("catalog")))
    prepare_warehouse(databases.url("warehouse"), catalog)
    prepare_warehouse(databases.url("warehouse"), catalog)  # as at every start
    with psycopg.connect(driver_url(databases.url("warehouse")), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def publisher(databases: Databases) -> Iterator[Engine]:
    engine = postgres_engine(databases.url("warehouse", "publisher"), "test")
    yield engine
    engine.dispose()


@pytest.fixture
def role(owner: Owner) -> Iterator[str]:
    """Somebody with an awkward name who may read and write the table."""
    name = f'Ana "{secrets.token_hex(3)}"; --'
    execute(owner, f"CREATE ROLE {quote(name)}")
    execute(owner, f"GRANT SELECT, INSERT, DELETE ON {TABLE} TO {quote(name)}")
    yield name
    execute(owner, f"DROP OWNED BY {quote(name)}")
    execute(owner, f"DROP ROLE {quote(name)}")


def execute(owner: Owner, sql: str) -> None:
    owner.execute(sql)  # pyright: ignore[reportArgumentType, reportCallIssue]


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def rights(owner: Owner, role: str) -> set[str]:
    rows = owner.execute(
        "SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p"
        " WHERE has_table_privilege(%s, %s, p)"
        " UNION SELECT 'amount' WHERE has_column_privilege(%s, %s, 'amount', 'UPDATE')",
        (role, TABLE, role, TABLE),
    )
    return {row[0] for row in rows}


def take(publisher: Engine, key: str, role: str) -> Revocation:
    with publisher.begin() as connection:
        return revoke_writes(connection, key, role, TABLE)


def give_back(publisher: Engine, key: str) -> tuple[str, ...]:
    with publisher.begin() as connection:
        return restore_privileges(connection, key)


def test_writes_are_taken_and_given_back_as_they_were(owner: Owner, publisher: Engine, role: str) -> None:
    execute(owner, f"GRANT UPDATE (amount), SELECT (amount) ON {TABLE} TO {quote(role)}")
    execute(owner, f"GRANT DELETE ON {TABLE} TO {quote(role)} WITH GRANT OPTION")
    before = rights(owner, role)
    assert before == {"SELECT", "INSERT", "DELETE", "amount"}
    taken = take(publisher, "k1", role)
    assert taken.privileges == (
        f"DELETE on raw.orders from {role}",
        f"INSERT on raw.orders from {role}",
        f"UPDATE (amount) on raw.orders from {role}",
    )
    assert (taken.refused, taken.still_writes) == (None, False)
    assert rights(owner, role) == {"SELECT"}
    assert take(publisher, "k1", role) == taken
    assert len(give_back(publisher, "k1")) == 3
    assert rights(owner, role) == before
    assert give_back(publisher, "k1") == ()
    may_grant = owner.execute("SELECT has_table_privilege(%s, %s, 'DELETE WITH GRANT OPTION')", (role, TABLE))
    assert may_grant.fetchone() == (True,)


def test_what_two_want_gone_comes_back_with_the_last_of_them(owner: Owner, publisher: Engine, role: str) -> None:
    take(publisher, "a1", role)
    assert len(take(publisher, "a2", role).privileges) == 2
    assert give_back(publisher, "a1") == ()
    assert rights(owner, role) == {"SELECT"}
    assert len(give_back(publisher, "a2")) == 2
    assert rights(owner, role) == {"SELECT", "INSERT", "DELETE"}


def test_a_breach_closes_the_tables_to_all_but_the_pipeline(owner: Owner, publisher: Engine, role: str) -> None:
    execute(owner, f"GRANT SELECT ON {TABLE} TO PUBLIC")
    take(publisher, "b1", role)
    with publisher.begin() as connection:
        closed = revoke_access(connection, "b2", [TABLE, "landing.orders"])
    assert f"SELECT on raw.orders from {role}" in closed.privileges
    assert "SELECT on raw.orders from PUBLIC" in closed.privileges
    assert rights(owner, role) == set()
    assert rights(owner, "publisher") == {"SELECT", "INSERT", "UPDATE", "DELETE", "amount"}
    assert rights(owner, "monitor") == {"SELECT"}
    give_back(publisher, "b1")
    assert rights(owner, role) == set()
    give_back(publisher, "b2")
    assert rights(owner, role) == {"SELECT", "INSERT", "DELETE"}
    execute(owner, f"REVOKE SELECT ON {TABLE} FROM PUBLIC")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("publisher", "a role of the pipeline itself"),
        ("lander", "a role of the pipeline itself"),
        ("postgres", "is a superuser"),
        ("nobody at all", "there is no role"),
    ],
)
def test_nothing_is_taken_from_those_who_cannot_or_must_not_lose_it(
    owner: Owner, publisher: Engine, name: str, why: str
) -> None:
    taken = take(publisher, "c1", name)
    assert taken.privileges == ()
    assert taken.refused
    assert why in taken.refused
    assert rights(owner, "publisher") == {"SELECT", "INSERT", "UPDATE", "DELETE", "amount"}


def test_the_owner_is_left_alone_and_who_writes_through_another_role_is_told(
    owner: Owner, publisher: Engine, role: str
) -> None:
    group = f"group_{secrets.token_hex(3)}"
    execute(owner, f"CREATE ROLE {group}")
    execute(owner, f"GRANT UPDATE ON {TABLE} TO {group}")
    execute(owner, f"GRANT {group} TO {quote(role)}")
    assert take(publisher, "d1", role).still_writes
    give_back(publisher, "d1")
    execute(owner, f"ALTER TABLE {TABLE} OWNER TO {group}")
    assert "owns the table" in str(take(publisher, "d2", group).refused)
    execute(owner, f"ALTER TABLE {TABLE} OWNER TO postgres")
    execute(owner, f"DROP OWNED BY {group}")
    execute(owner, f"DROP ROLE {group}")


def test_other_tables_and_odd_names_are_refused(publisher: Engine) -> None:
    with publisher.begin() as connection:
        with pytest.raises(InvalidIdentifier):
            revoke_writes(connection, "e1", "ana", 'raw.orders"; DROP TABLE raw.orders; --')
        with pytest.raises(Exception, match=r"publication\.windows is no table of landing, raw or marts"):
            revoke_writes(connection, "e1", "ana", "publication.windows")


def test_only_the_publisher_may_and_only_by_key(owner: Owner, publisher: Engine, databases: Databases) -> None:
    with psycopg.connect(driver_url(databases.url("warehouse", "monitor")), autocommit=True) as monitor:
        for call in ("revoke_writes('k', 'ana', 'raw.orders')", "restore_privileges('k')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(monitor, f"SELECT protection.{call}")
    with psycopg.connect(driver_url(databases.url("warehouse", "publisher")), autocommit=True) as dagster:
        for statement in (
            "INSERT INTO protection.revocations VALUES ('k', 'raw.orders', '', 'monitor', 'DELETE', true)",
            "SELECT protection.take_away('k', 'raw.orders'::regclass, 'lander', '{ALL}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(dagster, statement)
