"""Deletes old refresh runs: one a minute would hide the runs that a person looks for.

Deleting a run deletes its materializations, and a partition whose latest one is gone shows as missing. A run that holds
the latest materialization of a partition, or the latest evaluation of a check, therefore stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

JOB_TAG = "incident_pipelines/job"
JOB_TAG_VALUE = "refresh"
JUDGED_TAG = "incident_pipelines/old_run"
OPEN = "not_judged"
KEPT = "holds_latest"
REFRESH_TAGS: Mapping[str, str] = {JOB_TAG: JOB_TAG_VALUE, JUDGED_TAG: OPEN}
"""Tags of every refresh run; the judgement of an old one that stays takes the place of the second value."""

KEPT_FOR: Mapping[dg.DagsterRunStatus, timedelta] = {
    dg.DagsterRunStatus.SUCCESS: timedelta(hours=1),
    dg.DagsterRunStatus.FAILURE: timedelta(days=1),
    dg.DagsterRunStatus.CANCELED: timedelta(days=1),
}
RUNS_AT_A_TIME = 20


@dataclass(frozen=True)
class Pruned:
    """What one look at old runs did."""

    deleted: int
    kept: int


def prune_old_runs(instance: dg.DagsterInstance, now: datetime, limit: int = RUNS_AT_A_TIME) -> Pruned:
    """Delete refresh runs that are old and hold nothing that is the latest; each old run is judged once.

    Args:
        now: runs are kept for a while after they were created, failed ones longer.
        limit: runs of each status that are judged at most.
    """
    deleted = kept = 0
    for status, kept_for in KEPT_FOR.items():
        old = dg.RunsFilter(tags={**REFRESH_TAGS}, statuses=[status], created_before=now - kept_for)
        for run in instance.get_runs(old, limit=limit, ascending=True):
            if holds_latest(instance, run.run_id):
                instance.add_run_tags(run.run_id, {JUDGED_TAG: KEPT})
                kept += 1
            else:
                instance.delete_run(run.run_id)
                deleted += 1
    return Pruned(deleted, kept)


def holds_latest(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Return whether a materialization of the run is its partition's latest, or an evaluation its check's."""
    materialization = dg.DagsterEventType.ASSET_MATERIALIZATION
    partitions: dict[dg.AssetKey, dict[str, int]] = {}
    for record in _records(instance, run_id, materialization):
        entry = record.event_log_entry
        key = entry.get_dagster_event().asset_key
        if key is None:
            continue
        partition = entry.get_dagster_event().partition
        if partition is not None:
            seen = partitions.setdefault(key, {})
            seen[partition] = max(record.storage_id, seen.get(partition, 0))
            continue
        latest = instance.get_latest_materialization_event(key)
        if latest is None or latest.run_id == run_id:
            return True
    for key, seen in partitions.items():
        newest = instance.get_latest_storage_id_by_partition(key, materialization, set(seen))
        if any(newest.get(partition, 0) <= storage_id for partition, storage_id in seen.items()):
            return True
    for record in _records(instance, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        latest_check = instance.get_latest_asset_check_evaluation_record(evaluation.asset_check_key)
        if latest_check is None or latest_check.run_id == run_id:
            return True
    return False


def _records(instance: dg.DagsterInstance, run_id: str, event_type: dg.DagsterEventType) -> list[dg.EventLogRecord]:
    records: list[dg.EventLogRecord] = []
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=event_type, limit=1000)
        records.extend(page.records)
        if not page.has_more:
            return records
        cursor = page.cursor
