-- Windows whose log is not published as it is now: newer, refused, or never built; the newest first.
WITH landed AS (
    SELECT contract AS dataset,
           CASE WHEN contract = ANY (CAST(:whole AS text[])) THEN CAST(:start AS timestamptz) ELSE hour END AS window_start,
           sum(version) AS version, sum(rows)::bigint AS rows
    FROM landing.hours
    WHERE contract = ANY (CAST(:datasets AS text[]))
    GROUP BY 1, 2
)
SELECT l.dataset, l.window_start, l.rows
FROM landed l
LEFT JOIN publication.windows w USING (dataset, window_start)
LEFT JOIN publication.inputs i USING (dataset, window_start)
WHERE w.version IS NULL OR w.state = 'refused' OR l.version + coalesce(i.version, 0) > w.version
ORDER BY l.window_start DESC
