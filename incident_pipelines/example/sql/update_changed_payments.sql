UPDATE payments AS p
SET status = c.status,
    failure_reason = c.failure_reason,
    captured_at = c.captured_at,
    external_transaction_id = c.external_transaction_id,
    updated_at = clock_timestamp()
FROM changed_payments AS c
WHERE p.payment_id = c.payment_id
