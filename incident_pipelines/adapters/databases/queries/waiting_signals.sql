-- Signals that belong to no incident yet, oldest first.
SELECT s.signal_id, s.kind, s.severity, s.dataset, s.window_start, s.window_end, s.detail, s.occurred_at, s.raised_at,
       s.cleared_at
FROM monitoring.signals s
WHERE NOT EXISTS (SELECT FROM incidents.signals taken WHERE taken.signal_id = s.signal_id)
ORDER BY s.signal_id
LIMIT :page
