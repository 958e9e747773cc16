UPDATE incidents.actions SET state = 'intended', attempts = attempts + 1
WHERE key = :key AND state IN ('intended', 'failed')
RETURNING attempts
