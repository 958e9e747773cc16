UPDATE reconciliation.runs
SET source_rows = :source_rows, target_rows = :target_rows, missing = :missing, unexpected = :unexpected,
    mismatched = :mismatched, gap_rate = :gap_rate, opened = :opened, reopened = :reopened, resolved = :resolved,
    open_unexplained = :open_unexplained, open_in_flight = :open_in_flight, open_incident = :open_incident,
    money_at_stake = CAST(:money_at_stake AS jsonb), joined = :joined, joinable = :joinable, verdict = :verdict,
    statement = :statement, seconds = :seconds, finished_at = clock_timestamp()
WHERE run_id = :run_id
