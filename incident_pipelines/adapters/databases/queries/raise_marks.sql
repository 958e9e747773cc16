-- Makes windows stale. In order, so that two publishers never wait for each other in a circle.
INSERT INTO publication.inputs AS i (dataset, window_start)
SELECT dataset, window_start
FROM unnest(CAST(:datasets AS text[]), CAST(:window_starts AS timestamptz[])) AS m (dataset, window_start)
ORDER BY dataset, window_start
ON CONFLICT (dataset, window_start) DO UPDATE SET version = i.version + 1, changed_at = now()
