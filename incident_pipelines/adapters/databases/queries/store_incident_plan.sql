-- The same plan made again is the same plan.
INSERT INTO incidents.plans (incident_id, digest, revision, body, made_at, made_by)
VALUES (:incident_id, :digest, :revision, CAST(:body AS jsonb), :made_at, :made_by)
ON CONFLICT (incident_id, digest) DO NOTHING
RETURNING plan_id
