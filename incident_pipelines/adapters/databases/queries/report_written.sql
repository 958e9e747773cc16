UPDATE incidents.reports SET path = :path
WHERE incident_id = :incident_id AND name = :name AND basis = :basis
