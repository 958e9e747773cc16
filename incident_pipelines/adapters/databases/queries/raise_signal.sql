-- One signal for a fact; none if the fact has one, or a rule has found the same.
INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, source_fact, source_key,
    occurred_at)
SELECT :kind, :severity, :dataset, :window_start, :window_end,
       CASE jsonb_typeof(d.fact) WHEN 'object' THEN d.fact ELSE jsonb_build_object('detail', d.fact) END
           || jsonb_build_object('summary', CAST(:summary AS text), 'graded_by', CAST(:graded_by AS text)),
       :source_fact, CAST(:source_key AS text), :occurred_at
FROM (SELECT CAST(:detail AS jsonb) AS fact) d
WHERE NOT EXISTS (SELECT 1 FROM monitoring.signals s WHERE s.source_key = :source_key)
ON CONFLICT DO NOTHING
RETURNING signal_id
