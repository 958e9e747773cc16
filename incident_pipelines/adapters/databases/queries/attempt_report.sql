UPDATE incidents.reports SET attempts = attempts + 1, attempt_after = :attempt_after
WHERE incident_id = :incident_id AND name = :name AND basis = :basis
RETURNING attempts
