SELECT s.signal_id, s.kind, s.severity, s.dataset, s.window_start, s.window_end, s.detail, s.occurred_at, s.raised_at,
       s.cleared_at
FROM incidents.signals joined JOIN monitoring.signals s USING (signal_id)
WHERE joined.incident_id = :incident_id
ORDER BY s.signal_id
