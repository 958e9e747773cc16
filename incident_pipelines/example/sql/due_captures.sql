SELECT registration_id::text FROM payments
WHERE status = 'authorized' AND capture_due_at <= clock_timestamp()
ORDER BY capture_due_at
LIMIT %s
