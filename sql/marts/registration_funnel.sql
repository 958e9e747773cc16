-- How many of the registrations submitted on a day have reached each stage.
WITH submitted AS MATERIALIZED (
    SELECT DISTINCT ON (s.correlation_id) s.correlation_id, s.platform, s.region
    FROM raw.registrations s
    WHERE s.event_type = 'registration_submitted'
      AND s.created_at >= :window_start AND s.created_at < :window_end
      -- Submitted again later: the first time counts.
      AND NOT EXISTS (
          SELECT 1 FROM raw.registrations e
          WHERE e.correlation_id = s.correlation_id AND e.event_type = 'registration_submitted'
            AND e.created_at < :window_start
      )
    ORDER BY s.correlation_id, s.created_at, s.event_id
)
SELECT CAST(CAST(:window_start AS timestamptz) AT TIME ZONE 'UTC' AS date) AS day,
       g.stage,
       s.platform,
       s.region,
       count(*) AS registrations
FROM submitted s
CROSS JOIN LATERAL (
    SELECT e.event_type FROM raw.registrations e
    WHERE e.correlation_id = s.correlation_id AND e.created_at >= :window_start AND e.created_at < :reach_end
    UNION
    SELECT e.event_type FROM raw.payments e
    WHERE e.correlation_id = s.correlation_id AND e.created_at >= :window_start AND e.created_at < :reach_end
) t
JOIN (VALUES ('registration_submitted', 'submitted'), ('registration_created', 'created'),
             ('payment_initiated', 'payment_initiated'), ('payment_authorized', 'authorized'),
             ('payment_captured', 'captured'), ('account_activated', 'activated'),
             ('invoice_issued', 'invoiced'), ('registration_failed', 'failed')) AS g (event_type, stage)
    ON g.event_type = t.event_type
GROUP BY g.stage, s.platform, s.region
