-- The app keeps no instant of the capture; the row last changed then.
SELECT registration_id AS item, updated_at AS since, amount, currency
FROM public.registrations
WHERE status = 'captured'
