UPDATE incidents.reports SET sent_at = :now, addresses = :addresses
WHERE incident_id = :incident_id AND name = :name AND basis = :basis
