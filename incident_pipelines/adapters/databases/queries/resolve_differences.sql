-- Every difference that was open was looked for; those that this run has not found are gone.
UPDATE reconciliation.ledger
SET resolved_at = greatest(CAST(:as_of AS timestamptz), last_seen)
WHERE reconciliation = :reconciliation AND resolved_at IS NULL AND run_id <> :run_id
