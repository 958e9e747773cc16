UPDATE sign_up_flows
SET step = %s, attempts = %s, next_attempt_at = clock_timestamp() + %s * interval '1 second', last_error = %s
WHERE registration_id = %s
