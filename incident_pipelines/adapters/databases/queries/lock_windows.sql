-- Waits until whoever publishes one of the windows has ended, and keeps others from beginning. In one order for all.
SELECT count(pg_advisory_xact_lock(lock_key))
FROM (SELECT DISTINCT k AS lock_key FROM unnest(CAST(:lock_keys AS bigint[])) k ORDER BY 1) ordered
