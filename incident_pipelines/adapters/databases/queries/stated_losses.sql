-- The last proof of each other incident that is over: what it found missing was stated to be gone for good.
SELECT DISTINCT ON (f.incident_id) f.body
FROM incidents.findings f JOIN incidents.incidents i USING (incident_id)
WHERE f.kind = 'proof' AND f.incident_id <> :incident_id AND i.state IN ('recovered', 'resolved', 'reviewed')
ORDER BY f.incident_id, f.finding_id DESC
