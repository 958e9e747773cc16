UPDATE incidents.incidents SET stopped_at = :now, stopped_by = :actor, stopped_because = :because
WHERE incident_id = :incident_id
