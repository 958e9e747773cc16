INSERT INTO incidents.findings (incident_id, kind, revision, body, found_at)
VALUES (:incident_id, :kind, :revision, CAST(:body AS jsonb), :found_at)
