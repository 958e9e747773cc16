SELECT registration_id::text FROM sign_up_flows
WHERE next_attempt_at <= clock_timestamp() AND NOT registration_id = ANY(%s::uuid[])
ORDER BY next_attempt_at
LIMIT %s
