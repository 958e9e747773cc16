UPDATE incidents.incidents SET
    acknowledged_at = coalesce(acknowledged_at, :now), acknowledged_by = coalesce(acknowledged_by, :actor),
    commander = coalesce(commander, :commander)
WHERE incident_id = :incident_id
