INSERT INTO incidents.salvaged AS s (salvage, key, incident_id, amount, currency, since, intended_at, intended_by)
VALUES (:salvage, :key, :incident_id, :amount, :currency, :since, :now, :actor)
ON CONFLICT (salvage, key) DO UPDATE SET state = 'intended', attempts = s.attempts + 1,
    incident_id = coalesce(s.incident_id, excluded.incident_id), intended_at = excluded.intended_at,
    intended_by = excluded.intended_by, outcome = NULL, outcome_at = NULL
