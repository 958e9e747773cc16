SELECT max(entry) FROM incidents.timeline WHERE incident_id = :incident_id AND state_to IS NOT NULL
