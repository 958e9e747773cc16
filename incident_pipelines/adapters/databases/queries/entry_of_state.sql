SELECT entry, at, kind, actor_kind, actor, text, state_from, state_to, detail, previous_hash, hash
FROM incidents.timeline WHERE incident_id = :incident_id AND state_to IS NOT NULL ORDER BY entry DESC LIMIT 1
