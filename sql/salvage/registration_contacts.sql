SELECT r.registration_id AS key, r.status, r.failure_reason, r.plan_id, u.region, u.email
FROM public.registrations AS r
JOIN public.users AS u ON u.user_id = r.user_id
WHERE r.registration_id = ANY (CAST(:keys AS uuid[]))
