SELECT p.correlation_id AS item, p.created_at AS since, p.amount, p.currency
FROM raw.payments p
WHERE p.event_type = 'payment_captured'
  AND NOT EXISTS (
      SELECT 1
      FROM marts.registrations_final f
      WHERE f.registration_id = p.registration_id AND f.captured_at IS NOT NULL
  )
