INSERT INTO registrations (
    registration_id, user_id, plan_id, currency, amount, status, source, app_version, region, platform, created_at
) VALUES (%s, %s, %s, %s, %s, 'initiated', 'app', %s, %s, %s, %s)
