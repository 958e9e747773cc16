-- Windows a run has done from the inputs as they are now.
SELECT p.window_start, p.version, p.changed_rows
FROM publication.progress p
WHERE p.root_run_id = :root_run_id AND p.dataset = :dataset
  AND p.version = coalesce((SELECT i.version FROM publication.inputs i
                            WHERE i.dataset = p.dataset AND i.window_start = p.window_start), 0)
      + coalesce((SELECT sum(h.version) FROM landing.hours h
                  WHERE h.contract = p.dataset AND h.hour >= p.window_start
                    AND h.hour < CASE WHEN :whole THEN 'infinity' ELSE p.window_start + interval '1 hour' END), 0)
