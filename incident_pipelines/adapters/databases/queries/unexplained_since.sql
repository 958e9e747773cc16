SELECT count(*) FROM reconciliation.ledger
WHERE reconciliation = ANY (CAST(:reconciliations AS text[])) AND resolved_at IS NULL AND explanation IS NULL
  AND opened_at >= :since
