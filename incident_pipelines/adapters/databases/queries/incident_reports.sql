SELECT r.incident_id, i.severity, r.name, r.kind, r.basis, r.title, r.body, r.made_at, r.path, r.delivered, r.sent_at,
    r.addresses, r.attempts, r.error
FROM incidents.reports r JOIN incidents.incidents i USING (incident_id)
WHERE r.incident_id = :incident_id ORDER BY r.made_at, r.name
