UPDATE incidents.action_items SET done_at = :now, done_by = :actor
WHERE incident_id = :incident_id AND item = :item AND done_at IS NULL
