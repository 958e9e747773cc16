UPDATE monitoring.topic_changes
SET done_at = CASE WHEN CAST(:failure AS text) IS NULL THEN clock_timestamp() END, failure = :failure
WHERE change_id = :change_id
