"""What runs connect to; addresses come from the environment when a run asks for them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from sqlalchemy import Engine, create_engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.defs.catalog import declared_catalog


class PostgresResource(dg.ConfigurableResource):
    """A PostgreSQL database of ours.

    Args:
        url: SQLAlchemy URL.
    """

    url: str

    @contextmanager
    def engine(self, owner: str) -> Iterator[Engine]:
        """Give an engine whose connections others see under the owner's name."""
        engine = postgres_engine(self.url, owner)
        try:
            yield engine
        finally:
            engine.dispose()


class SourcesResource(dg.ConfigurableResource):
    """The databases that rows are read from, each looked up when it is read: one that is missing stops only itself.

    Args:
        variables: name of a source → environment variable with its SQLAlchemy URL.
    """

    variables: dict[str, str]

    @contextmanager
    def engine(self, source: str) -> Iterator[Engine]:
        """Give an engine for a source of the catalog.

        Raises:
            SourceUnavailable: its variable is not set.
        """
        variable = self.variables[source]
        url = os.environ.get(variable)
        if not url:
            raise SourceUnavailable(f"source {source} cannot be read: {variable} is not set")
        engine = create_engine(url, pool_pre_ping=True)
        try:
            yield engine
        finally:
            engine.dispose()


class KafkaResource(dg.ConfigurableResource):
    """The broker that topics are on.

    Args:
        bootstrap_servers: HOST:PORT, comma separated.
    """

    bootstrap_servers: str


def resources_for(catalog: Catalog) -> Mapping[str, dg.ConfigurableResource]:
    """Return the resources by key."""
    return {
        "warehouse": PostgresResource(url=dg.EnvVar("WAREHOUSE_URL")),
        "control": PostgresResource(url=dg.EnvVar("CONTROL_DATABASE_URL")),
        "sources": SourcesResource(variables=dict(catalog.sources)),
        "kafka": KafkaResource(bootstrap_servers=dg.EnvVar("KAFKA_BOOTSTRAP_SERVERS")),
    }


@dg.definitions
def resources() -> dg.Definitions:
    """Return the resources of the declared catalog."""
    return dg.Definitions(resources=resources_for(declared_catalog()))
