-- What is not written or not sent yet, and may be tried now; of progress updates that wait the last one alone is sent.
SELECT r.incident_id, i.severity, r.name, r.kind, r.basis, r.title, r.body, r.made_at, r.path, r.delivered, r.sent_at,
    r.addresses, r.attempts, r.error
FROM incidents.reports r JOIN incidents.incidents i USING (incident_id)
WHERE (r.path IS NULL OR r.sent_at IS NULL) AND r.attempts < :attempts_at_most AND r.attempt_after <= :now
    AND NOT (r.kind = 'progress' AND EXISTS (SELECT FROM incidents.reports later
        WHERE later.incident_id = r.incident_id AND later.kind = 'progress' AND later.made_at > r.made_at))
ORDER BY r.kind <> 'escalated', r.made_at, r.name
LIMIT :page
