INSERT INTO plans (plan_id, name, currency, amount) VALUES (%s, %s, %s, %s) ON CONFLICT (plan_id) DO NOTHING
