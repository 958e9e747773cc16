-- The window agrees again, or everything does.
UPDATE monitoring.signals
SET cleared_at = now()
WHERE kind = :kind AND dataset = :dataset AND source_key IS NOT NULL AND cleared_at IS NULL
  AND (:everything OR window_start = :window_start)
