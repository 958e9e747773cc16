SELECT item, text, owner, due, added_at, added_by, done_at, done_by
FROM incidents.action_items WHERE incident_id = :incident_id ORDER BY item
