-- Captures of the window, and how many of them had an active account within 5 minutes.
SELECT count(*) AS total,
       count(*) FILTER (
           WHERE EXISTS (
               SELECT 1
               FROM raw.registrations r
               WHERE r.correlation_id = p.correlation_id AND r.event_type = 'account_activated'
                 AND r.created_at >= p.created_at AND r.created_at < p.created_at + interval '5 minutes'
           )
       ) AS joined
FROM raw.payments p
WHERE p.event_type = 'payment_captured' AND p.created_at >= :window_start AND p.created_at < :window_end
