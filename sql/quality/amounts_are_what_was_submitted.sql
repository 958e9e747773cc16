-- Registrations of the day whose amount is none that was submitted.
SELECT count(*)
FROM staged s
WHERE NOT EXISTS (
    SELECT 1 FROM raw.registrations r
    WHERE r.correlation_id = s.registration_id AND r.event_type = 'registration_submitted'
      AND r.created_at >= :window_start AND r.created_at < :window_end
      AND r.amount = s.amount AND r.currency = s.currency
)
