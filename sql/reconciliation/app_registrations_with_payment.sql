-- Sign-ups as billing has to know them. An activated account is a captured payment; what failed before billing was asked
-- has none there.
SELECT registration_id,
       user_id,
       plan_id,
       currency,
       amount,
       CASE WHEN status = 'activated' THEN 'captured' ELSE status END AS payment_status,
       failure_reason,
       region,
       platform,
       app_version,
       created_at,
       updated_at
FROM public.registrations
WHERE NOT (status = 'failed' AND coalesce(failure_reason, '') IN ('internal_error', 'billing_unavailable'))
