SELECT source_key, signal_id, dataset
FROM monitoring.signals
WHERE kind = :kind AND source_key IS NOT NULL AND cleared_at IS NULL
