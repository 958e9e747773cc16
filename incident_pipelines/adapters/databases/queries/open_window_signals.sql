SELECT DISTINCT dataset, window_start
FROM monitoring.signals
WHERE kind = :kind AND source_key IS NOT NULL AND cleared_at IS NULL
