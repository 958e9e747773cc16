-- Incidents that are over and hold windows or whose containment was not undone, as after one was closed by hand.
SELECT i.incident_id
FROM incidents.incidents i
WHERE i.state IN ('resolved', 'reviewed')
  AND (i.incident_id = ANY (CAST(:holders AS text[])) OR EXISTS (SELECT FROM incidents.actions a
              WHERE a.incident_id = i.incident_id AND a.kind = ANY (CAST(:kinds AS text[]))
                AND (a.state IN ('done', 'intended') OR (a.state = 'failed' AND a.outcome ->> 'released' IS NULL))))
ORDER BY i.number
