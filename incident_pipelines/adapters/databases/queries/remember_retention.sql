INSERT INTO monitoring.topic_retentions AS t (topic, retention_ms, seen_at) VALUES (:topic, :retention_ms, :now)
ON CONFLICT (topic) DO UPDATE SET retention_ms = excluded.retention_ms, seen_at = excluded.seen_at
WHERE t.retention_ms <> excluded.retention_ms
