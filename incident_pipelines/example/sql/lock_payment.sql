SELECT user_id::text, plan_id, currency, amount, region, platform, app_version, status, failure_reason, capture_due_at
FROM payments WHERE registration_id = %s FOR UPDATE
