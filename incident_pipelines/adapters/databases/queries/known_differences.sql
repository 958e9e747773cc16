SELECT difference_id, first_seen, opened_at, last_seen, resolved_at, reopened, explanation, incident_id, values_digest
FROM reconciliation.ledger
WHERE difference_id = ANY (:ids)
