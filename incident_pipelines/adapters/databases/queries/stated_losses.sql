-- The last proof of each other incident that was recovered by it: what it found missing was stated to be gone.
SELECT DISTINCT ON (f.incident_id) f.body
FROM incidents.findings f JOIN incidents.incidents i USING (incident_id)
WHERE f.kind = 'proof' AND f.incident_id <> :incident_id AND i.state IN ('recovered', 'resolved', 'reviewed') AND i.recovered_at IS NOT NULL
ORDER BY f.incident_id, f.finding_id DESC
