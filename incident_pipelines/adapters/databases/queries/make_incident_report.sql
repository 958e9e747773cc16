INSERT INTO incidents.reports AS r (incident_id, name, kind, basis, title, body, made_at)
VALUES (:incident_id, :name, :kind, :basis, :title, :body, :made_at)
ON CONFLICT (incident_id, name) DO UPDATE SET
    kind = excluded.kind, basis = excluded.basis, title = excluded.title, body = excluded.body,
    made_at = excluded.made_at, path = NULL, delivered = '{}', sent_at = NULL, addresses = NULL, attempts = 0,
    attempt_after = '-infinity', error = NULL
WHERE r.basis <> excluded.basis
RETURNING r.name
