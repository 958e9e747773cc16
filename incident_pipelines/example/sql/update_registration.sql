UPDATE registrations
SET status = %s, failure_reason = %s, activated_at = coalesce(%s, activated_at), updated_at = clock_timestamp()
WHERE registration_id = %s AND status NOT IN ('activated', 'failed')
