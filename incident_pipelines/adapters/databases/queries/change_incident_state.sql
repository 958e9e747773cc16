-- One row, or somebody else came first.
UPDATE incidents.incidents SET
    state = :target,
    contained_at = CASE WHEN :target = 'contained' THEN coalesce(contained_at, :now) ELSE contained_at END,
    -- The system's own containment is a response as well.
    acknowledged_at = CASE WHEN :target = 'contained' THEN coalesce(acknowledged_at, :now) ELSE acknowledged_at END,
    acknowledged_by = CASE WHEN :target = 'contained' AND acknowledged_at IS NULL THEN :actor ELSE acknowledged_by END,
    recovered_at = CASE :target WHEN 'recovered' THEN :now WHEN 'detected' THEN NULL ELSE recovered_at END,
    resolved_at = CASE WHEN :target = 'resolved' THEN :now ELSE resolved_at END,
    resolution = CASE WHEN :target <> 'resolved' THEN resolution WHEN :by_person THEN 'by_hand' ELSE 'proven' END,
    reviewed_at = CASE WHEN :target = 'reviewed' THEN :now ELSE reviewed_at END
WHERE incident_id = :incident_id AND state = :expected
  AND (stopped_at IS NULL OR :by_person OR :target = 'detected')
  AND (CAST(:revision AS integer) IS NULL OR revision = :revision)
