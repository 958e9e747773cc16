INSERT INTO incidents.action_items (incident_id, item, text, owner, due, added_at, added_by)
SELECT :incident_id, count(*) + 1, :text, :owner, CAST(:due AS date), :now, :actor
FROM incidents.action_items WHERE incident_id = :incident_id
RETURNING item
