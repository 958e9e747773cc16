DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - %s * interval '1 day'
