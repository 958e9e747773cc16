-- Keys of open differences that a run has not seen itself.
SELECT DISTINCT key, key_types
FROM reconciliation.ledger
WHERE reconciliation = :reconciliation AND resolved_at IS NULL AND run_id <> :run_id
