"""Where landing goes on in each partition, as the log says it."""

from dataclasses import dataclass

from sqlalchemy import Connection

from incident_pipelines.adapters.databases.statements import query


@dataclass(frozen=True)
class StoredOffset:
    """The place of one partition.

    Args:
        next: offset of the first record that is not in the log.
        topic_id: the incarnation of the topic that `next` is about.
        owner: which lander had the partition last.
    """

    next: int
    stopped: bool
    topic_id: str
    owner: str = ""


def landing_offsets(connection: Connection) -> dict[tuple[str, int], StoredOffset]:
    """Return the place of every partition that was ever landed, by (topic, partition)."""
    return {
        (topic, partition): StoredOffset(next_offset, state == "stopped", topic_id or "", owner or "")
        for topic, partition, next_offset, state, topic_id, owner in connection.execute(query("landing_offsets"))
    }
