"""Takes out what keeps the promises, one at a time, in a copy of the package, and says which test notices.

`python -m incident_pipelines_tests.property_8 [NAME…]`: with names only these. It ends with 1 if a test passes that has
to fail.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "incident_pipelines",
    "incident_pipelines_tests",
    "pyproject.toml",
    "jgo.toml",
    "jgo.lock.toml",
    "sql",
    "data",
)
FENCES = "incident_pipelines_tests/adapters/stores/test_landing_fences.py"
RECOVER = "incident_pipelines_tests/stages/recovery/test_recover.py"
HOSTILE = "incident_pipelines_tests/stages/recovery/test_recover_hostile.py"
INCIDENTS = "incident_pipelines_tests/stages/incidents/test_by_hand.py"
SENSOR = "incident_pipelines_tests/defs/test_recovery_sensor.py"
DELETES = "incident_pipelines_tests/stages/recovery/test_missed_deletes.py"
CORRECTIONS = "incident_pipelines_tests/stages/recovery/test_correct.py"
SCHEMA = "incident_pipelines/adapters/databases/schema"
QUERIES = "incident_pipelines/adapters/databases/queries"


@dataclass(frozen=True)
class Mutation:
    """Something that is taken out.

    Args:
        changes: (file, text, what stands there instead); each text has to be there.
        test: the smallest one that has to fail.
    """

    name: str
    changes: tuple[tuple[str, str, str], ...]
    test: str


MUTATIONS = (
    Mutation(
        "the lander's epoch",
        (
            (
                "incident_pipelines/adapters/stores/landing_log.py",
                "next = %s AND epoch = %s AND state",
                "next = %s AND %s > 0 AND state",
            ),
        ),
        f"{FENCES}::test_who_was_taken_over_writes_nothing_although_no_offset_has_moved",
    ),
    Mutation(
        "the lander's next offset",
        (
            (
                "incident_pipelines/adapters/stores/landing_log.py",
                "next = %s AND epoch = %s AND state",
                "%s >= 0 AND epoch = %s AND state",
            ),
        ),
        f"{FENCES}::test_who_was_taken_over_writes_nothing_although_no_offset_has_moved",
    ),
    Mutation(
        "the log's unique key",
        (("incident_pipelines/core/contracts/ddl.py", ", PRIMARY KEY (origin_id, partition, position))", ")"),),
        f"{FENCES}::test_an_offset_that_was_put_back_by_hand_writes_no_row_twice",
    ),
    Mutation(
        "raw's unique key",
        (("incident_pipelines/core/contracts/ddl.py", ", PRIMARY KEY ({key}))", ")"),),
        f"{FENCES}::test_raw_takes_no_event_twice",
    ),
    Mutation(
        "a replay leaves out what the log has",
        (("incident_pipelines/stages/recovery/replay.py", "if event_id not in known:", "if True:"),),
        f"{RECOVER}::test_missing_events_come_back_once_and_are_proved",
    ),
    Mutation(
        "the budget of a plan",
        (
            (f"{QUERIES}/take_budget.sql", " AND taken + :events <= events_at_most", ""),
            (f"{SCHEMA}/incidents.sql", " CHECK (taken <= events_at_most)", ""),
        ),
        f"{HOSTILE}::test_a_plan_never_replays_more_than_its_budget_however_often_it_is_begun",
    ),
    Mutation(
        "the share of a replay that may fail",
        (("incident_pipelines/core/recovery/guardrails.py", "MAX_FAILED_SHARE = 0.02", "MAX_FAILED_SHARE = 2"),),
        f"{HOSTILE}::test_a_replay_whose_events_fail_is_stopped_and_a_person_is_asked",
    ),
    Mutation(
        "the rate of a replay",
        (("incident_pipelines/stages/recovery/replay.py", "        self._wait_for_turn(events)\n", ""),),
        f"{HOSTILE}::test_a_replay_goes_at_the_rate_it_may_and_no_faster",
    ),
    Mutation(
        "the share of a window that may be deleted",
        (("incident_pipelines/core/recovery/deletes.py", "MAX_SHARE = 0.05", "MAX_SHARE = 1"),),
        f"{DELETES}::test_too_large_a_share_or_number_needs_a_person",
    ),
    Mutation(
        "the number of rows that may be deleted",
        (("incident_pipelines/core/recovery/deletes.py", "if before + missing > cap_of(agreed):", "if False:"),),
        f"{DELETES}::test_too_large_a_share_or_number_needs_a_person",
    ),
    Mutation(
        "the number of rows of a correction",
        (("incident_pipelines/adapters/recovery_sources/manual.py", "if len(rows) > max_rows:", "if False:"),),
        f"{CORRECTIONS}::test_a_correction_reads_only_and_under_its_cap",
    ),
    Mutation(
        "one recovery of a window at a time",
        (("incident_pipelines/core/incidents/holds.py", 'if wanted != "recovery":', "if True:"),),
        f"{HOSTILE}::test_of_two_incidents_on_the_same_windows_one_waits_and_has_nothing_left_to_do",
    ),
    Mutation(
        "the circuit breaker of a recovery",
        (("incident_pipelines/core/recovery/guardrails.py", "MAX_ATTEMPTS = 3", "MAX_ATTEMPTS = 10**6"),),
        f"{SENSOR}::test_a_recovery_whose_runs_fail_is_escalated_once",
    ),
    Mutation(
        "a second loss widens an incident",
        (
            (
                "incident_pipelines/core/incidents/joining.py",
                "again = incident.state",
                "again = False and incident.state",
            ),
        ),
        f"{HOSTILE}::test_what_ages_out_during_a_recovery_is_recovered_too",
    ),
    Mutation(
        "an entry of a timeline follows the last one",
        (
            (
                f"{SCHEMA}/incidents.sql",
                "    IF NEW.entry <> incident.entries + 1 OR NEW.previous_hash <> incident.head_hash THEN",
                "    IF false THEN",
            ),
        ),
        f"{INCIDENTS}::test_an_entry_that_follows_nothing_is_refused",
    ),
    Mutation(
        "a timeline is append-only",
        (
            (
                f"{SCHEMA}/incidents.sql",
                "    RAISE EXCEPTION 'the timeline of incidents is append-only: % is refused', TG_OP USING ERRCODE = "
                "'restrict_violation';",
                "    RETURN NEW;",
            ),
        ),
        f"{INCIDENTS}::test_the_timeline_is_append_only_for_its_owner_as_well",
    ),
)


def main(names: list[str]) -> int:
    """Try the mutations of these names, all if there are none; return the exit code."""
    chosen = [one for one in MUTATIONS if not names or one.name in names]
    survived: list[str] = []
    with tempfile.TemporaryDirectory(prefix="property-8-") as folder:
        copy = Path(folder)
        _copy(copy)
        passes, seconds, told = _run(copy, sorted({one.test for one in chosen}))
        if not passes:
            print(f"the tests fail before anything was taken out ({seconds:.0f} s): {told}", file=sys.stderr)
            return 1
        print(f"{'taken out':46} {'as it must':18} {'s':>4}  test")
        for mutation in chosen:
            kept = _mutate(copy, mutation)
            passed, seconds, told = _run(copy, [mutation.test])
            for path, text in kept.items():
                path.write_text(text, encoding="utf-8")
            noticed = not passed and re.search(r"\d+ failed", told) is not None
            if not noticed:
                survived.append(mutation.name)
            print(
                f"{mutation.name:46} {'failed' if noticed else f'NOT NOTICED {told}':18} {seconds:4.0f}  "
                f"{mutation.test.rpartition('/')[2]}",
                flush=True,
            )
    if survived:
        print(f"no test noticed that these were gone: {', '.join(survived)}", file=sys.stderr)
    return 1 if survived else 0


def _copy(folder: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)


def _mutate(folder: Path, mutation: Mutation) -> dict[Path, str]:
    """Take out what the mutation names; return what the files held before."""
    kept: dict[Path, str] = {}
    for name, text, instead in mutation.changes:
        path = folder / name
        before = path.read_text(encoding="utf-8")
        if text not in before:
            raise SystemExit(
                f"{mutation.name}: {name} no longer holds {text!r}; the list in property_8.py has to follow"
            )
        kept.setdefault(path, before)
        path.write_text(before.replace(text, instead), encoding="utf-8")
    return kept


def _run(folder: Path, tests: list[str]) -> tuple[bool, float, str]:
    """Run tests of the copy; return whether they passed, how long it took, and the summary's last line."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        "--show-capture=no",
        "-o",
        "addopts=",
        *tests,
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    lines += [line.strip("= ") for line in done.stdout.splitlines()[-1:]]
    told = "; ".join(lines) or done.stderr[-300:]
    return done.returncode == 0, time.monotonic() - started, told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
