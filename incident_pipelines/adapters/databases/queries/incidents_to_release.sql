-- Incidents that are over and whose containment was not undone, as after a person has closed one by hand.
SELECT i.incident_id
FROM incidents.incidents i
WHERE i.state IN ('resolved', 'reviewed')
  AND EXISTS (SELECT FROM incidents.actions a
              WHERE a.incident_id = i.incident_id AND a.kind = ANY (CAST(:kinds AS text[]))
                AND (a.state IN ('done', 'intended') OR (a.state = 'failed' AND a.outcome ->> 'released' IS NULL)))
ORDER BY i.number
