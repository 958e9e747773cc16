SELECT incident_id FROM incidents.incidents
WHERE recovered_at > :since AND state IN ('recovered', 'resolved', 'reviewed') ORDER BY number
