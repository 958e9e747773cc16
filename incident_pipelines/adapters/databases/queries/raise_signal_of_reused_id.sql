-- A fact whose id belongs to another fact's signal: the warehouse was restored or made again and gives ids anew.
INSERT INTO monitoring.signals (kind, severity, dataset, window_start, window_end, detail, source_fact, source_key,
    occurred_at)
SELECT :kind, :severity, :dataset, :window_start, :window_end,
       CASE jsonb_typeof(d.fact) WHEN 'object' THEN d.fact ELSE jsonb_build_object('detail', d.fact) END
           || jsonb_build_object('summary', CAST(:summary AS text), 'graded_by', CAST(:graded_by AS text),
                                 'reused_fact_id', CAST(:source_fact AS bigint)),
       NULL, CAST(:source_key AS text), :occurred_at
FROM (SELECT CAST(:detail AS jsonb) AS fact) d
WHERE NOT EXISTS (
    SELECT 1 FROM monitoring.signals s
    WHERE s.kind = :kind AND s.dataset = :dataset AND s.occurred_at = :occurred_at
      AND (s.source_fact = :source_fact
           OR s.source_fact IS NULL AND s.detail ->> 'reused_fact_id' = CAST(CAST(:source_fact AS bigint) AS text)))
  AND NOT EXISTS (SELECT 1 FROM monitoring.signals s WHERE s.source_key = :source_key)
ON CONFLICT DO NOTHING
RETURNING signal_id
