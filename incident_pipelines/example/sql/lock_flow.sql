SELECT f.step, f.card, f.activation_delay_seconds, f.attempts, r.user_id::text, r.plan_id, r.currency, r.amount,
    r.region, r.platform, r.app_version, r.status
FROM sign_up_flows AS f
JOIN registrations AS r ON r.registration_id = f.registration_id
WHERE f.registration_id = %s
FOR UPDATE OF f
