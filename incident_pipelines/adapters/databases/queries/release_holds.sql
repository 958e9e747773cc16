-- Lets go of what an incident holds: all of it, of some kinds, or of one span.
DELETE FROM publication.holds
WHERE incident_id = :incident_id
  AND (CAST(:kinds AS text[]) IS NULL OR kind = ANY (CAST(:kinds AS text[])))
  AND (CAST(:dataset AS text) IS NULL
       OR (dataset = :dataset AND window_start = :window_start AND window_end = :window_end))
