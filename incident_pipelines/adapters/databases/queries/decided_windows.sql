-- What was decided about some windows last, and whether their inputs are newer.
SELECT a.dataset, a.window_start, w.state, w.failed_rules, w.published_at,
       w.version IS NOT NULL AND coalesce(i.version, 0) + coalesce(
           (SELECT sum(h.version) FROM landing.hours h
            WHERE h.contract = a.dataset AND h.hour >= a.window_start AND h.hour < a.window_end), 0) > w.version AS stale
FROM unnest(CAST(:datasets AS text[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
     AS a (dataset, window_start, window_end)
LEFT JOIN publication.windows w USING (dataset, window_start)
LEFT JOIN publication.inputs i USING (dataset, window_start)
