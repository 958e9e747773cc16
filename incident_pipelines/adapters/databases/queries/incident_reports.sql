SELECT r.*, i.severity FROM incidents.reports r JOIN incidents.incidents i USING (incident_id)
WHERE r.incident_id = :incident_id ORDER BY r.made_at, r.name
