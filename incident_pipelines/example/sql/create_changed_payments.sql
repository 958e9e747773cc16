CREATE TEMPORARY TABLE changed_payments (
    payment_id uuid, status text, failure_reason text, captured_at timestamptz, external_transaction_id text
) ON COMMIT DROP
