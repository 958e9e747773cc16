INSERT INTO idempotency_keys (idempotency_key, registration_id) VALUES (%s, %s) ON CONFLICT DO NOTHING
