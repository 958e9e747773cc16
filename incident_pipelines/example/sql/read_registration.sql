SELECT user_id::text, plan_id, currency, amount, region, platform, app_version, status, failure_reason
FROM registrations WHERE registration_id = %s
