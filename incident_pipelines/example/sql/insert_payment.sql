INSERT INTO payments (
    payment_id, registration_id, user_id, plan_id, currency, amount, status, app_version, region, platform, created_at
) VALUES (%s, %s, %s, %s, %s, %s, 'initiated', %s, %s, %s, %s)
ON CONFLICT DO NOTHING
