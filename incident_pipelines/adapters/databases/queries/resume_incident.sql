UPDATE incidents.incidents SET stopped_at = NULL, stopped_by = NULL, stopped_because = NULL
WHERE incident_id = :incident_id
