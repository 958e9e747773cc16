SELECT registration_id AS key
FROM public.registrations
WHERE status = 'activated' AND registration_id = ANY (CAST(:keys AS uuid[]))
