-- Each rule of a dataset over the last build of all its windows; the worst window is the one with the largest share.
SELECT rule,
       (array_agg(severity ORDER BY checked_at DESC))[1] AS severity,
       count(*) AS windows,
       count(*) FILTER (WHERE NOT passed) AS windows_failed,
       sum(rows)::bigint AS rows,
       sum(unexpected)::bigint AS unexpected,
       (array_agg(window_start ORDER BY unexpected::double precision / greatest(rows, 1) DESC, window_start DESC)
           FILTER (WHERE unexpected > 0))[1] AS worst_window,
       max(unexpected::double precision / greatest(rows, 1)) AS worst_share,
       max(checked_at) AS checked_at
FROM publication.checks
WHERE dataset = :dataset
GROUP BY rule
ORDER BY rule
