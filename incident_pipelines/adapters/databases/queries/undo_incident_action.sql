UPDATE incidents.actions SET state = 'undone', undone_at = :now, undone_by = :actor
WHERE key = :key AND state = 'done'
RETURNING incident_id, kind
