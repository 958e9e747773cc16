-- The most copies of a window's events that were told of it.
SELECT coalesce(max(CAST(detail ->> 'copies' AS bigint)), 0) FROM landing.facts
WHERE kind = 'duplicate_events' AND dataset = :dataset AND window_start = :window_start
