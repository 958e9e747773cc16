-- The intent of an effect; none if it was intended before.
INSERT INTO incidents.actions (incident_id, key, kind, target, intended_at, intended_by)
VALUES (:incident_id, :key, :kind, CAST(:target AS jsonb), :now, :actor)
ON CONFLICT (key) DO NOTHING
RETURNING action_id
