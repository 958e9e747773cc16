SELECT retention_ms FROM monitoring.topic_retentions WHERE topic = :topic
