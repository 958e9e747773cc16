-- Days of marts whose marks are newer than what was decided about them.
SELECT i.dataset, i.window_start
FROM publication.inputs i LEFT JOIN publication.windows w USING (dataset, window_start)
WHERE i.dataset = ANY (CAST(:datasets AS text[])) AND i.window_start <= now()
  AND (w.version IS NULL OR i.version > w.version)
