"""What surrounds the publishing of a window: its owner, its inputs, and what is written down about it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.databases.ownership import take_lock
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.contracts.rules import RuleResult
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.publication import OffsetSpan, WindowContent, lock_key
from incident_pipelines.core.windows import TimeWindow

_UNIQUE_VIOLATION = "23505"
_OVERTAKEN = {"40001", "40P01"}

Mark = tuple[str, datetime]
"""(dataset, start of the window) to make stale."""


@dataclass(frozen=True)
class WindowInputs:
    """What a window is built from.

    Args:
        version: rises with every change to the log of the window and with every mark on it.
        spans: by origin and partition.
        dead_letters: number in the log of the window.
        refused_version: version at which the window was refused, if that was the last decision.
        has_quarantine: rows of the window are in quarantine.
        others_have_quarantine: rows of other windows of the dataset are.
    """

    version: int
    spans: tuple[OffsetSpan, ...]
    dead_letters: int
    refused_version: int | None
    has_quarantine: bool
    others_have_quarantine: bool


@dataclass(frozen=True)
class WindowCounts:
    """Numbers that are kept of a window.

    Args:
        content: what publishing left in it; None where nothing was published.
    """

    rows: int
    changed_rows: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    quarantined: int = 0
    content: WindowContent | None = None


def key_is_published_elsewhere(error: DBAPIError) -> bool:
    """Whether a row could not be published because its key stands in another window."""
    return getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION


def was_overtaken(error: DBAPIError) -> bool:
    """Whether another transaction came first and the same work has a chance when it is done again."""
    return getattr(error.orig, "sqlstate", None) in _OVERTAKEN


def take_window(
    connection: Connection, warehouse: Engine, dataset: str, window: TimeWindow, owner: str, wait_seconds: float
) -> None:
    """Become the window's one owner until the transaction ends.

    Args:
        owner: shown to whoever wants the window meanwhile; the first 63 bytes count.
        wait_seconds: how long to wait for another owner; 0 does not wait.

    Raises:
        WindowOwned: somebody else still has it; the message names the owner.
    """
    holder = take_lock(connection, warehouse, query("take_window"), lock_key(dataset, window), owner, wait_seconds)
    if holder is not None:
        raise WindowOwned(f"{dataset} {window.start.isoformat()} is being published by {holder}")


def read_inputs(connection: Connection, dataset: str, window: TimeWindow) -> WindowInputs:
    """Return what the window is to be built from; to be read before the data, so that it never claims too much."""
    values = {"dataset": dataset, "window_start": window.start, "window_end": window.end}
    state = connection.execute(query("window_state"), values).one()
    log = connection.execute(query("window_log"), values).all()
    return WindowInputs(
        version=state.marks + sum(part.version for part in log),
        spans=tuple(OffsetSpan(p.origin_id, p.partition, p.first_position, p.last_position) for p in log),
        dead_letters=sum(part.dead_letters for part in log),
        refused_version=state.refused_version,
        has_quarantine=state.has_quarantine,
        others_have_quarantine=state.others_have_quarantine,
    )


def raise_marks(connection: Connection, marks: Iterable[Mark]) -> None:
    """Make windows stale."""
    ordered = sorted(set(marks))
    if ordered:
        connection.execute(
            query("raise_marks"),
            {"datasets": [dataset for dataset, _ in ordered], "window_starts": [start for _, start in ordered]},
        )


def leave_unwatched(connection: Connection, dataset: str, windows: Iterable[TimeWindow]) -> None:
    """Become the owner of windows too that rows are taken out of, and drop their digests until they are published.

    Without owning them, their own publish could store a digest with the rows at the same time.
    """
    ordered = sorted(set(windows))
    for window in ordered:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock_key)"), {"lock_key": lock_key(dataset, window)})
    connection.execute(
        query("leave_unwatched"), {"dataset": dataset, "window_starts": [window.start for window in ordered]}
    )


def waiting_for_rules(connection: Connection, dataset: str, rules: Sequence[str]) -> set[Mark]:
    """Return the windows of a dataset that one of the rules kept rows, or all of it, out of."""
    rows = connection.execute(query("waiting_for_rules"), {"dataset": dataset, "rules": list(rules)})
    return {(row.dataset, row.window_start) for row in rows}


def store_decision(
    connection: Connection,
    dataset: str,
    window: TimeWindow,
    inputs: WindowInputs,
    counts: WindowCounts,
    results: Sequence[RuleResult],
    owner: str,
    root_run_id: str | None,
) -> None:
    """Write down that a window was published, or refused by one of its rules: then with a fact if that is new."""
    failed = [result.rule for result in results if result.refuses]
    content = counts.content or WindowContent(rows=0, digest=0, columns=())
    connection.execute(
        query("store_window"),
        {
            "dataset": dataset,
            "window_start": window.start,
            "window_end": window.end,
            "state": "refused" if failed else "published",
            "version": inputs.version,
            "rows": counts.rows,
            "changed_rows": counts.changed_rows,
            "duplicates": counts.duplicates,
            "dead_letters": counts.dead_letters,
            "quarantined": counts.quarantined,
            "failed_rules": failed,
            "owner": owner,
            "root_run_id": root_run_id,
            "content_rows": content.rows,
            "content_digest": content.digest,
            "content_columns": list(content.columns),
            "rules": [result.rule for result in results],
            "passed": [result.passed for result in results],
            "looked_at": [result.rows for result in results],
            "unexpected": [result.unexpected for result in results],
            "max_shares": [result.max_share for result in results],
            "severities": [result.severity for result in results],
        },
    )
    if failed and inputs.refused_version != inputs.version:
        detail: dict[str, Any] = {"version": inputs.version, "owner": owner, "failed_rules": failed_rules(results)}
        connection.execute(
            query("record_refusal"),
            {
                "dataset": dataset,
                "window_start": window.start,
                "window_end": window.end,
                "detail": json.dumps(detail),
            },
        )


def failed_rules(results: Sequence[RuleResult]) -> list[dict[str, Any]]:
    """Return what refused a window, as it is written down and told."""
    return [
        {
            "rule": result.rule,
            "rows": result.rows,
            "unexpected": result.unexpected,
            "share": result.share,
            "max_share": result.max_share,
        }
        for result in results
        if result.refuses
    ]
