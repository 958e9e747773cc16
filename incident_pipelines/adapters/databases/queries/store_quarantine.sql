-- Brings the quarantine of a window to what was withheld now.
WITH freed AS (
    DELETE FROM landing.quarantine q
    WHERE q.contract = :dataset AND q.window_start = :window_start
      AND NOT EXISTS (SELECT 1 FROM withheld w
                      WHERE w.origin_id = q.origin_id AND w.partition = q.partition AND w.position = q.position)
)
INSERT INTO landing.quarantine AS q (contract, window_start, origin_id, partition, position, key, reasons, correlation_id)
SELECT :dataset, :window_start, origin_id, partition, position, key, reasons, correlation_id FROM withheld
ON CONFLICT (contract, window_start, origin_id, partition, position)
DO UPDATE SET key = EXCLUDED.key, reasons = EXCLUDED.reasons, correlation_id = EXCLUDED.correlation_id
WHERE (q.key, q.reasons, q.correlation_id) IS DISTINCT FROM (EXCLUDED.key, EXCLUDED.reasons, EXCLUDED.correlation_id)
