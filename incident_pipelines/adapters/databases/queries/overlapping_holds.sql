-- Holds on windows that overlap one.
SELECT hold_id, dataset, window_start, window_end, incident_id, number, kind, reason, held_at
FROM publication.holds
WHERE dataset = :dataset AND window_start < :window_end AND window_end > :window_start
ORDER BY hold_id
