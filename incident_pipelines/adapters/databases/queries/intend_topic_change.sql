INSERT INTO monitoring.topic_changes (topic, retention_before_ms, retention_after_ms, acknowledged_for, by, asked_at)
VALUES (:topic, :before_ms, :after_ms, :acknowledged_for, :by, :now)
RETURNING change_id
