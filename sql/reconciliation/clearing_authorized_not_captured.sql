SELECT registration_id AS item, created_at AS since, amount, currency
FROM public.payments
WHERE status = 'authorized'
