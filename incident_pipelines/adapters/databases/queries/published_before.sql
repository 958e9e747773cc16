-- What was written down when a window was published last, the results of its rules included.
SELECT w.version, w.rows, w.changed_rows, w.duplicates, w.dead_letters, w.quarantined, w.seconds,
       c.rule, c.passed, c.rows AS looked_at, c.unexpected, c.max_share, c.severity
FROM publication.windows w
LEFT JOIN publication.checks c USING (dataset, window_start)
WHERE w.dataset = :dataset AND w.window_start = :window_start
ORDER BY c.rule
