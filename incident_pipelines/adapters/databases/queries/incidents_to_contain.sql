-- Incidents that are not contained, or where something is wrong again that containment had put right.
SELECT i.incident_id
FROM incidents.incidents i
WHERE i.stopped_at IS NULL AND (
    i.state = 'detected'
    OR (i.state IN ('contained', 'scoped', 'planned', 'awaiting_approval', 'waiting_for_cause', 'recovering', 'verifying')
        AND (EXISTS (SELECT FROM incidents.signals j JOIN monitoring.signals s USING (signal_id)
                     WHERE j.incident_id = i.incident_id AND s.cleared_at IS NULL
                       AND s.kind = ANY (CAST(:signals AS text[]))
                       AND s.raised_at > (SELECT max(a.intended_at) FROM incidents.actions a
                                          WHERE a.incident_id = i.incident_id AND a.kind = ANY (CAST(:again AS text[]))))
             OR EXISTS (SELECT FROM incidents.actions a
                        WHERE a.incident_id = i.incident_id AND a.kind = ANY (CAST(:again AS text[]))
                          AND a.state IN ('intended', 'failed') AND a.attempts < :attempts))))
ORDER BY i.number
