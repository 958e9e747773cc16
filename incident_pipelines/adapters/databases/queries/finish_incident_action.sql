UPDATE incidents.actions SET state = :state, outcome = CAST(:outcome AS jsonb), outcome_at = :now,
    undo = coalesce(CAST(:undo AS jsonb), undo)
WHERE key = :key AND state IN ('intended', 'failed')
RETURNING incident_id, kind
