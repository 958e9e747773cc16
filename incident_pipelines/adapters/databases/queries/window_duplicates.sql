SELECT w.dataset, sum(w.duplicates) AS duplicates
FROM publication.windows w
JOIN unnest(CAST(:datasets AS text[]), CAST(:window_starts AS timestamptz[])) AS asked (dataset, window_start)
    USING (dataset, window_start)
GROUP BY w.dataset
