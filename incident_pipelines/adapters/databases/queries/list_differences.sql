SELECT difference_id, kind, key, columns, first_seen, last_seen, resolved_at, age, reopened, money_at_stake, currency,
       explanation, incident_id
FROM reconciliation.differences
WHERE reconciliation = :reconciliation AND (NOT :only_open OR resolved_at IS NULL)
ORDER BY resolved_at IS NOT NULL, explanation IS NOT NULL, first_seen, difference_id
LIMIT :rows
