-- Who holds a lock; a bigint key shows as two halves.
SELECT a.application_name
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = ((CAST(:lock_key AS bigint) >> 32) & 4294967295)::oid
  AND l.objid = (CAST(:lock_key AS bigint) & 4294967295)::oid
LIMIT 1
