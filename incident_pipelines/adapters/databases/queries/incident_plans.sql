SELECT plan_id, incident_id, digest, revision, body, made_at, made_by, approved_at, approved_by
FROM incidents.plans WHERE incident_id = :incident_id ORDER BY plan_id
