UPDATE incidents.reports SET error = :error
WHERE incident_id = :incident_id AND name = :name AND basis = :basis
