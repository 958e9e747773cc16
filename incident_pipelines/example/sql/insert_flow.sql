INSERT INTO sign_up_flows (registration_id, step, card, activation_delay_seconds, next_attempt_at)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (registration_id) DO NOTHING
