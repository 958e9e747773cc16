INSERT INTO incidents.timeline (incident_id, entry, at, kind, actor_kind, actor, text, state_from, state_to, detail,
    previous_hash, hash)
VALUES (:incident_id, :entry, :at, :kind, :actor_kind, :actor, :text, :state_from, :state_to, CAST(:detail AS jsonb),
    :previous_hash, :hash)
