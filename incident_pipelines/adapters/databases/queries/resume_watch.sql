-- One that has run out ended then, by itself. Returns whether each still went on.
UPDATE monitoring.suspensions
SET ended_at = least(until, CAST(:now AS timestamptz)),
    ended_by = CASE WHEN until > CAST(:now AS timestamptz) THEN :by END
WHERE watch = :watch AND ended_at IS NULL
RETURNING until > CAST(:now AS timestamptz)
