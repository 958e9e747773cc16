-- One page of the facts of transactions from :start up to, not with, :end, after the last one that was read.
SELECT fact_id, CAST(xid AS text) AS xid, kind, dataset, window_start, window_end, CAST(detail AS text) AS detail, recorded_at
FROM landing.facts
WHERE xid >= CAST(CAST(:start AS text) AS xid8) AND xid < CAST(CAST(:end AS text) AS xid8)
  AND (xid, fact_id) > (CAST(CAST(:after_xid AS text) AS xid8), CAST(:after_id AS bigint))
ORDER BY xid, fact_id
LIMIT :page
