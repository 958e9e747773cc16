UPDATE registrations AS r
SET status = c.status, failure_reason = c.failure_reason, activated_at = c.activated_at, updated_at = clock_timestamp()
FROM changed_registrations AS c
WHERE r.registration_id = c.registration_id
