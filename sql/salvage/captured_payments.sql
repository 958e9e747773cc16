SELECT registration_id AS key, amount, currency, captured_at AS since
FROM public.payments
WHERE status = 'captured' AND captured_at >= :since AND captured_at < :due
ORDER BY captured_at, payment_id
