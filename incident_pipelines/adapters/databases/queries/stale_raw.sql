-- Windows of landed datasets whose log or marks are newer than what was decided about them. Hours to come wait.
WITH landed AS (
    SELECT contract AS dataset,
           CASE WHEN contract = ANY (CAST(:whole AS text[])) THEN CAST(:start AS timestamptz) ELSE hour END AS window_start,
           sum(version) AS version
    FROM landing.hours
    WHERE contract = ANY (CAST(:datasets AS text[])) AND hour >= date_trunc('hour', CAST(:start AS timestamptz), 'UTC')
      AND hour <= now()
    GROUP BY 1, 2
), inputs AS (
    SELECT dataset, window_start, version FROM landed
    UNION ALL
    SELECT dataset, window_start, version FROM publication.inputs
    WHERE dataset = ANY (CAST(:datasets AS text[])) AND window_start <= now()
)
SELECT i.dataset, i.window_start
FROM inputs i LEFT JOIN publication.windows w USING (dataset, window_start)
GROUP BY i.dataset, i.window_start, w.version
HAVING w.version IS NULL OR sum(i.version) > w.version
