SELECT p.registration_id AS item, p.captured_at AS since, p.amount, p.currency
FROM public.payments p
WHERE p.status = 'captured' AND NOT EXISTS (SELECT 1 FROM public.invoices i WHERE i.payment_id = p.payment_id)
