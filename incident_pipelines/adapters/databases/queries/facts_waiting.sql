-- Facts that wait for an older transaction to end.
SELECT count(*) AS facts, min(recorded_at) AS since
FROM landing.facts
WHERE xid >= CAST(CAST(:end AS text) AS xid8) AND recorded_at < now() - make_interval(secs => :seconds)
