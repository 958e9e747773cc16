SELECT action_id, incident_id, key, kind, target, state, intended_at, intended_by, attempts, outcome, outcome_at, undo,
       undone_at, undone_by
FROM incidents.actions
WHERE (CAST(:incident_id AS text) IS NULL OR incident_id = :incident_id)
  AND (CAST(:only_intended AS boolean) IS NOT TRUE OR state = 'intended')
ORDER BY action_id
