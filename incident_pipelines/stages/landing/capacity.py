"""How many events a second landing can take on this machine, measured once and then remembered."""

import time
from datetime import datetime
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.stores.recovery_budget import latest_capacity, store_capacity
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.ddl import ENVELOPE
from incident_pipelines.core.contracts.decoder import microseconds
from incident_pipelines.core.contracts.model import EventContract
from incident_pipelines.core.contracts.run_decoder import MessageDecoder
from incident_pipelines.core.landing import LogBatch, Messages

SAMPLE = 20_000
LEAST_SAMPLE = 1_000
UNMEASURED = 20_000.0
"""Events a second where there is nothing to measure with: a fifth of what two cores landed."""


def known_capacity(control: Engine, now: datetime) -> float:
    """Return how many events a second landing was last measured to take, or a guess: it measures nothing.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    with available("control database"), control.connect() as connection:
        return latest_capacity(connection, now) or UNMEASURED


def landing_capacity(control: Engine, warehouse: Engine, catalog: Catalog, now: datetime) -> float:
    """Return how many events a second landing can take, at least once a month measured anew.

    Measured as landing does it: decoded, checked against the contract, encoded, and copied into a table like the log's
    with its keys and indexes, which is gone at the end of the transaction.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    with available("control database"), control.connect() as connection:
        known = latest_capacity(connection, now)
    if known is not None:
        return known
    measured = _measure(warehouse, catalog, now)
    if measured is None:
        return UNMEASURED
    rate, how = measured
    with available("control database"), control.begin() as connection:
        store_capacity(connection, now, rate, how)
    return rate


def _measure(warehouse: Engine, catalog: Catalog, now: datetime) -> tuple[float, str] | None:
    with available("warehouse"), warehouse.connect() as connection:
        driver = cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)
        samples = [
            (contract, _sample(driver, contract))
            for contract in catalog.landed.values()
            if isinstance(contract, EventContract)
        ]
        contract, values = max(samples, key=lambda one: len(one[1]), default=(None, []))
        if contract is None or len(values) < LEAST_SAMPLE:
            return None
        driver.execute(
            sql.SQL("CREATE TEMPORARY TABLE calibrated (LIKE {} INCLUDING ALL) ON COMMIT DROP").format(
                sql.Identifier("landing", contract.name)
            )
        )
        started = time.perf_counter()
        at = microseconds(now)
        messages = Messages.of(values, [at] * len(values))
        batch = LogBatch(0, 0, at)
        envelopes = MessageDecoder(contract, catalog.start).envelopes(values, messages.sent, at)
        batch.add(range(len(values)), messages, envelopes)
        columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in ENVELOPE)
        statement = sql.SQL("COPY calibrated ({}) FROM STDIN (FORMAT binary)").format(columns)
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for piece in batch.copy_data():
                copy.write(piece)
        rate = len(values) / (time.perf_counter() - started)
        connection.rollback()
    return rate, f"{len(values)} events of {contract.name}, decoded and copied in one transaction"


def _sample(connection: psycopg.Connection[tuple[Any, ...]], contract: EventContract) -> list[bytes]:
    """Return some messages that were landed well."""
    statement = sql.SQL("SELECT value FROM {} WHERE reason IS NULL LIMIT %s").format(
        sql.Identifier("landing", contract.name)
    )
    with connection.cursor(binary=True) as cursor:
        return [value for (value,) in cursor.execute(statement, (SAMPLE,))]
