SELECT hold_id, dataset, window_start, window_end, incident_id, number, kind, reason, held_at
FROM publication.holds
WHERE CAST(:incident_id AS text) IS NULL OR incident_id = :incident_id
ORDER BY number, dataset, window_start, hold_id
