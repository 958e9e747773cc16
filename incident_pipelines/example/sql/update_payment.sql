UPDATE payments
SET status = %s,
    failure_reason = %s,
    external_transaction_id = coalesce(%s, external_transaction_id),
    captured_at = coalesce(%s, captured_at),
    capture_due_at = %s,
    updated_at = clock_timestamp()
WHERE registration_id = %s
