"""Keeps an outbox from growing without end."""

from incident_pipelines.example.databases import statement
from incident_pipelines.example.service.connections import Connections

# Twice the topics' retention: what has left Kafka can still be taken from here.
KEEP_OUTBOX_DAYS = 30
BATCH_ROWS = 5_000


def prune_outbox(connections: Connections) -> int:
    """Delete published outbox rows that are older than `KEEP_OUTBOX_DAYS` and return how many."""
    total = 0
    while True:
        with connections.transaction() as connection:
            deleted = connection.execute(statement("prune_outbox"), (KEEP_OUTBOX_DAYS, BATCH_ROWS)).rowcount
        total += deleted
        if deleted < BATCH_ROWS:
            return total
