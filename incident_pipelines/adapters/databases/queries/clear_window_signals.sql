-- The window is right again.
UPDATE monitoring.signals SET cleared_at = now()
WHERE kind = :kind AND dataset = :dataset AND window_start = :window_start AND source_key IS NOT NULL
  AND cleared_at IS NULL
RETURNING signal_id
