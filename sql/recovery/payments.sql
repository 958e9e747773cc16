SELECT event_id, created_at AS event_time, correlation_id AS key, value, written_at
FROM outbox
WHERE topic = 'payments' AND created_at >= :window_start AND created_at < :window_end
ORDER BY created_at, event_id
