"""Fixtures that every test may use: a running PostgreSQL and Kafka, fresh databases, topics of one's own."""

import random
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

from incident_pipelines.stack.environment import DATABASE_VARIABLES, ROLE_DATABASES
from incident_pipelines.stack.postgres import create_database, grant_connect
from incident_pipelines.stack.stack import Stack

_SEED_OPTION = "hypothesis_seed"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose one seed for `random` and Hypothesis, unless `--hypothesis-seed` gives it."""
    if getattr(config.option, _SEED_OPTION, None) is None:
        setattr(config.option, _SEED_OPTION, str(secrets.randbelow(2**32)))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {_seed(config)} (repeat with --hypothesis-seed={_seed(config)})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    # -q leaves the header out; who reads a failure needs the seed.
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(pytest_report_header(config))


@pytest.fixture(autouse=True)
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A generator that depends on the run's seed and the test's name, and not on the tests before it."""
    seed = f"{_seed(request.config)}:{request.node.nodeid}"
    random.seed(seed)
    return random.Random(seed)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """PostgreSQL and Kafka, started as `up` starts them, in a home of their own."""
    with tempfile.TemporaryDirectory(prefix="ip-test-") as folder:
        stack = Stack(Path(folder) / "home", durable=False, ends_with_caller=True)
        stack.start_infrastructure()
        try:
            yield stack
        finally:
            stack.stop()


@dataclass(frozen=True)
class Databases:
    """Databases of one test module, empty at its start.

    Args:
        names: Purpose (app, billing, warehouse, control) → name of the database.
    """

    stack: Stack
    names: Mapping[str, str]

    def url(self, purpose: str, role: str = "postgres") -> str:
        """The SQLAlchemy URL of a database for a PostgreSQL role."""
        return self.stack.postgres.url(self.names[purpose], role)

    def environment(self, role: str = "owner") -> dict[str, str]:
        """The variables that a process of this role gets, pointing at these databases."""
        variables = self.stack.environment(role)
        for purpose, login in ROLE_DATABASES[role].items():
            variables[DATABASE_VARIABLES[purpose]] = self.url(purpose, login)
        return variables


@pytest.fixture(scope="module")
def databases(stack: Stack) -> Iterator[Databases]:
    """Fresh, empty app, billing, warehouse and control databases, shared by a test module and dropped after it."""
    yield from _fresh_databases(stack)


@pytest.fixture
def own_databases(stack: Stack) -> Iterator[Databases]:
    """Fresh, empty databases for one test."""
    yield from _fresh_databases(stack)


@pytest.fixture
def new_topic(stack: Stack) -> Iterator[Callable[..., str]]:
    """A function `(purpose="topic", partitions=1, **config) -> name` that makes topics nobody else uses."""
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    made: list[str] = []

    def make(purpose: str = "topic", partitions: int = 1, **config: str | int) -> str:
        name = f"{purpose}_{secrets.token_hex(4)}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(timeout=10)
        made.append(name)
        return name

    yield make
    existing = set(admin.list_topics(timeout=10).topics) & set(made)
    if existing:
        for deleted in admin.delete_topics(sorted(existing)).values():
            deleted.result(timeout=10)


def _fresh_databases(stack: Stack) -> Iterator[Databases]:
    suffix = secrets.token_hex(4)
    names = {purpose: f"{purpose}_{suffix}" for purpose in DATABASE_VARIABLES}
    with stack.postgres.connect() as connection:
        for purpose, name in names.items():
            create_database(connection, name)
            grant_connect(connection, name, purpose)
    yield Databases(stack, names)
    with stack.postgres.connect() as connection:
        for name in names.values():
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _seed(config: pytest.Config) -> str:
    return str(getattr(config.option, _SEED_OPTION, 0))
