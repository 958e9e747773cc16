-- What a stated loss accounts for: open differences of its kinds in its windows, if there are so many at most. If there
-- are more, nobody can tell which ones it accounts for, and none is explained any longer.
WITH within AS (
    SELECT l.difference_id, count(*) OVER () <= :at_most AS is_explained
    FROM reconciliation.ledger l
    WHERE l.reconciliation = :reconciliation AND l.resolved_at IS NULL AND l.kind = ANY (CAST(:kinds AS text[]))
      AND (l.explanation IS NULL OR (l.explanation = 'incident' AND l.incident_id = :incident_id))
      AND EXISTS (
          SELECT FROM unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) AS w (starts, ends),
              unnest(ARRAY[coalesce(l.source_time, l.target_time, l.newest_at),
                           coalesce(l.target_time, l.source_time, l.newest_at)]) AS own (at)
          WHERE own.at >= w.starts AND own.at < w.ends)
)
UPDATE reconciliation.ledger l
SET explanation = CASE WHEN w.is_explained THEN 'incident' END,
    incident_id = CASE WHEN w.is_explained THEN :incident_id END
FROM within w
WHERE l.difference_id = w.difference_id
RETURNING w.is_explained
