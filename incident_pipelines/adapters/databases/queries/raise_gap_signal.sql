-- One signal for a gap in a window, while it lasts; a graver one is told apart.
INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, source_key, occurred_at)
VALUES (:kind, :severity, :dataset, :window_start, :window_end, CAST(:detail AS jsonb), :source_key, :occurred_at)
ON CONFLICT (source_key) WHERE cleared_at IS NULL DO NOTHING
RETURNING signal_id
