-- A hold; the same one again stays as it was.
INSERT INTO publication.holds (dataset, window_start, window_end, incident_id, kind, reason, held_at)
VALUES (:dataset, :window_start, :window_end, :incident_id, :kind, :reason, :now)
ON CONFLICT (incident_id, kind, dataset, window_start, window_end) DO NOTHING
