SELECT DISTINCT s.dataset, s.window_start, s.window_end
FROM incidents.signals joined JOIN monitoring.signals s USING (signal_id)
WHERE joined.incident_id = :incident_id AND s.kind = :kind
