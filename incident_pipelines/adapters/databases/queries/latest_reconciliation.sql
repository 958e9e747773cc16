SELECT * FROM reconciliation.runs
WHERE reconciliation = :reconciliation AND (CAST(:mode AS text) IS NULL OR mode = :mode)
ORDER BY run_id DESC
LIMIT 1
