-- One row for each registration, on the day it was submitted, as its events have left it. LATERAL: a lookup for each
-- registration of the day costs the same however long the history is; a join would read all days within reach.
WITH submitted AS MATERIALIZED (
    SELECT DISTINCT ON (s.correlation_id) s.*
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
SELECT s.registration_id,
       CAST(s.created_at AT TIME ZONE 'UTC' AS date) AS day,
       s.user_id,
       s.plan_id,
       s.currency,
       s.amount,
       s.region,
       s.platform,
       s.app_version,
       CASE WHEN r.activated_at IS NOT NULL THEN 'activated'
            WHEN r.failed_at IS NOT NULL OR p.failed_at IS NOT NULL THEN 'failed'
            WHEN p.captured_at IS NOT NULL THEN 'captured'
            WHEN p.authorized_at IS NOT NULL THEN 'authorized'
            ELSE 'initiated' END AS status,
       CASE WHEN r.activated_at IS NULL THEN coalesce(r.failure_reason, p.failure_reason) END AS failure_reason,
       s.created_at AS submitted_at,
       p.authorized_at,
       p.captured_at,
       r.activated_at,
       p.invoiced_at,
       least(r.failed_at, p.failed_at) AS failed_at,
       extract(epoch FROM r.activated_at - s.created_at) AS activation_seconds
FROM submitted s
CROSS JOIN LATERAL (
    SELECT min(e.created_at) FILTER (WHERE e.event_type = 'account_activated') AS activated_at,
           min(e.created_at) FILTER (WHERE e.event_type = 'registration_failed') AS failed_at,
           min(e.failure_reason) FILTER (WHERE e.event_type = 'registration_failed') AS failure_reason
    FROM raw.registrations e
    WHERE e.correlation_id = s.correlation_id AND e.created_at >= :window_start AND e.created_at < :reach_end
) r
CROSS JOIN LATERAL (
    SELECT min(e.created_at) FILTER (WHERE e.event_type = 'payment_authorized') AS authorized_at,
           min(e.created_at) FILTER (WHERE e.event_type = 'payment_captured') AS captured_at,
           min(e.created_at) FILTER (WHERE e.event_type = 'invoice_issued') AS invoiced_at,
           min(e.created_at) FILTER (WHERE e.event_type = 'payment_failed') AS failed_at,
           min(e.failure_reason) FILTER (WHERE e.event_type = 'payment_failed') AS failure_reason
    FROM raw.payments e
    WHERE e.correlation_id = s.correlation_id AND e.created_at >= :window_start AND e.created_at < :reach_end
) p
